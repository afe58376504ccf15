"""Every command in the guide is run, in the order of the document, or says why it is not."""

import re
import subprocess
import unittest

from demo import READY, TESTS, DemoTest

REPOSITORY = TESTS.parent.parent
GUIDE = REPOSITORY / "docs" / "guides" / "ecs.md"
BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*) -->\n)?^```[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^(?:\w+=\$\()?(?:aws|sudo|ssh|make|packer|weave-rs|deploy/|head|sed) ?", re.MULTILINE)


def blocks():
    return [(match["mark"] or "", match["text"]) for match in BLOCK.finditer(GUIDE.read_text())]


class Guide(DemoTest):
    def test_every_block_of_commands_is_run_or_says_why_not(self):
        for mark, text in blocks():
            if COMMAND.search(text):
                self.assertRegex(mark, r"^(run|not run: .{10,})$", text)
        self.assertGreaterEqual(sum(mark == "run" for mark, _ in blocks()), 14)

    def test_what_can_be_run_works_and_is_removed_by_the_script(self):
        """In one shell, since later commands use what earlier ones found; in a folder that has the repository's deploy."""
        (self.folder / "deploy").symlink_to(REPOSITORY / "deploy")
        commands = "".join(text for mark, text in blocks() if mark == "run")
        script = f"set -euo pipefail\n{commands}\naws ecs list-services --cluster weave-ecs-demo-cluster\n"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=300,
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        self.assertIn("service/weave-ecs-demo-cluster/weave-ecs-demo-service", done.stdout)
        self.assertEqual(len(self.cloud.inventory()["instance"]), 3)
        self.succeed("cleanup.sh")
        self.assertEqual(self.cloud.inventory(), {})

    def test_the_printed_lines_are_those_of_the_script(self):
        printed = [text for mark, text in blocks() if mark == "output of deploy/ecs/setup.sh"]
        self.assertEqual(printed, [READY])


if __name__ == "__main__":
    unittest.main()
