"""Permissions that are missing, one by one: which one is told in one line, and nothing is left half done."""

import unittest

from cloud import changes
from demo import DemoTest

# GetCallerIdentity needs no permission. The group's activities only explain why hosts are late.
FREE = {"GetCallerIdentity", "DescribeScalingActivities"}


class Denied(DemoTest):
    def test_setup_names_each_permission_that_is_missing_and_rolls_back(self):
        self.succeed("setup.sh")
        needed = sorted(set(self.cloud.calls) - FREE)
        self.succeed("cleanup.sh")
        self.assertGreater(len(needed), 30)
        for operation in needed:
            self.cloud.denied = {operation}
            code, _, errors = self.run_script("setup.sh")
            self.assertEqual(code, 1, operation)
            self.assertEqual(errors.count("\n"), 1, errors)
            self.assertRegex(errors, rf"^setup.sh: not allowed: the caller needs \w+:{self.permission(operation)};")
            self.cloud.denied = set()
            self.assert_nothing_left(operation)

    def test_cleanup_names_each_permission_that_is_missing_and_goes_on(self):
        """Nothing may be deleted at first; then what was named is allowed, until nothing more is named."""
        self.succeed("setup.sh")
        made = self.cloud.inventory()
        self.succeed("cleanup.sh")
        needed = {it for it in self.cloud.calls if changes(it) and it.startswith(("De", "Remove"))}
        self.succeed("setup.sh")
        self.cloud.denied, named = set(needed), set()
        while self.cloud.denied:
            code, output, errors = self.run_script("cleanup.sh")
            self.assertEqual(code, 1)
            lines = errors.splitlines()
            self.assertIn("could not remove: ", lines[-1])
            self.assertEqual(len(lines) - 1, output.count("failed"), errors)
            if not named:
                self.assertEqual(self.cloud.inventory().keys(), made.keys())
            news = {it for it in self.cloud.denied if any(f":{it};" in line for line in lines)}
            self.assertTrue(news, errors)
            self.cloud.denied -= news
            named |= news
        self.assertEqual(named, needed)
        self.succeed("cleanup.sh")
        self.assert_nothing_left()

    def test_who_may_not_look_is_told_before_anything_is_made(self):
        self.cloud.denied = {"DescribeServices"}
        code, _, errors = self.run_script("setup.sh")
        self.assertEqual(code, 1)
        self.assertIn("ecs:DescribeServices", errors)
        self.assertEqual([it for it in self.cloud.calls if changes(it)], [])

    def test_what_cannot_be_rolled_back_is_named(self):
        self.cloud.denied = {"CreateSubnet", "DeleteVpc"}
        code, _, errors = self.run_script("setup.sh")
        self.assertEqual(code, 1)
        self.assertIn("ec2:CreateSubnet", errors)
        self.assertIn("ec2:DeleteVpc", errors)
        self.assertTrue(errors.endswith("setup.sh: left: vpc; run cleanup.sh\n"), errors)

    def permission(self, operation):
        return "ListBucket" if operation == "HeadBucket" else operation


if __name__ == "__main__":
    unittest.main()
