"""What setup.sh makes, and that cleanup.sh leaves nothing of it."""

import base64
import hashlib
import os
import re
import stat
import unittest

from botocore.exceptions import ClientError
from demo import ECS, READY, DemoTest


class Setup(DemoTest):
    def test_the_real_cli_sets_up_and_cleans_up(self):
        cli = os.path.dirname(os.environ["REAL_AWS"])
        real = {"PATH": f"{cli}:{os.environ['PATH']}", "WEAVE_ECS_DEADLINE": "120"}
        with self.cloud.agents.joining_by_themselves():
            output = self.succeed("setup.sh", **real)
        self.assertEqual(output[: len(READY)], READY)
        self.assertEqual(len(re.findall(r"^  http://[0-9.]+$", output, re.MULTILINE)), 3, output)
        self.succeed("cleanup.sh", **real)
        self.assert_nothing_left()

    def test_both_scripts_may_run_twice(self):
        self.assertEqual(self.succeed("setup.sh")[: len(READY)], READY)
        made = self.cloud.inventory()
        self.succeed("setup.sh")
        self.assertEqual(self.cloud.inventory(), made)
        self.assertEqual(len(made["instance"]), 3)
        self.succeed("cleanup.sh")
        self.assert_nothing_left()
        self.assertTrue(self.succeed("cleanup.sh").endswith("Nothing is left.\n"))

    def test_a_run_that_fails_leaves_what_was_there_before(self):
        self.succeed("setup.sh")
        self.cloud.client("ecs").delete_service(cluster="weave-ecs-demo-cluster", service="weave-ecs-demo-service", force=True)
        before = self.cloud.inventory()
        self.cloud.denied = {"CreateService"}
        code, _, errors = self.run_script("setup.sh")
        self.assertEqual(code, 1)
        self.assertIn("ecs:CreateService", errors)
        self.assertEqual(self.cloud.inventory(), before)

    def test_what_only_looks_like_ours_stays(self):
        ec2 = self.cloud.client("ec2")
        tags = [{"ResourceType": "vpc", "Tags": [{"Key": "Name", "Value": "weave-ecs-demo-vpc"}]}]
        theirs = ec2.create_vpc(CidrBlock="10.0.0.0/24", TagSpecifications=tags)["Vpc"]["VpcId"]
        self.succeed("setup.sh")
        self.succeed("cleanup.sh")
        self.assertEqual(self.cloud.inventory(), {"vpc": [theirs]})

    def test_two_installations_do_not_meet(self):
        self.succeed("setup.sh")
        first = self.cloud.inventory()
        self.succeed("setup.sh", WEAVE_ECS_NAME="other", WEAVE_ECS_SIZE="1")
        self.assertEqual(len(self.cloud.inventory()["instance"]), 4)
        self.succeed("cleanup.sh", WEAVE_ECS_NAME="other")
        self.assertEqual(self.cloud.inventory(), first)

    def test_hosts_that_do_not_come_end_it_with_the_reason(self):
        self.cloud.agents.present = False
        code, _, errors = self.run_script("setup.sh", WEAVE_ECS_DEADLINE="1")
        self.assertEqual(code, 1)
        self.assertIn("setup.sh: instances are missing after 1 s: 0 of 3", errors)
        self.assert_nothing_left()

    def test_a_setting_that_cannot_be_used_is_told_before_anything_happens(self):
        for variable, value in [("NAME", "a b"), ("SIZE", "0"), ("IMAGE", "x"), ("NETWORK", "all"), ("SSH_FROM", "me")]:
            code, _, errors = self.run_script("setup.sh", **{f"WEAVE_ECS_{variable}": value})
            self.assertEqual((code, errors.count("\n")), (1, 1), errors)
            self.assertIn(f"WEAVE_ECS_{variable}={value}", errors)
        code, _, errors = self.run_script("setup.sh", WEAVE_ECS_ARCHIVE="/nowhere")
        self.assertEqual((code, errors), (1, "setup.sh: no archive at /nowhere: run make ecs-archive\n"))
        self.assertEqual([it for it in self.cloud.calls if it != "GetCallerIdentity"], [])

    def test_a_key_of_another_region_is_not_touched(self):
        key = self.folder / "weave-ecs-demo-key.pem"
        key.write_text("a key")
        code, _, errors = self.run_script("setup.sh")
        self.assertEqual(code, 1)
        self.assertIn("weave-ecs-demo-key.pem is of another region or account: move it away", errors)
        self.succeed("cleanup.sh")
        self.assertEqual(key.read_text(), "a key")


class WhatIsMade(DemoTest):
    def test_an_image_of_ones_own_needs_no_archive(self):
        self.succeed("setup.sh", WEAVE_ECS_IMAGE="ami-03cf127a", WEAVE_ECS_ARCHIVE="/nowhere")
        self.assertEqual(self.template()["ImageId"], "ami-03cf127a")
        self.assertNotIn("s3://", self.user_data())
        self.assertEqual(self.rules()[1], {("tcp", 80, 80, "0.0.0.0/0")})
        self.assertNotIn("bucket", self.cloud.inventory())
        self.succeed("cleanup.sh")
        self.assert_nothing_left()

    def test_everything_is_as_the_guide_says(self):
        """One set-up, looked at from all sides."""
        self.succeed("setup.sh", WEAVE_ECS_SSH_FROM="192.0.2.1/32")
        for look in (
            self.hosts_ask_for_tokens_and_give_containers_no_credentials,
            self.the_secret_is_in_the_parameter_store_alone,
            self.hosts_install_that_archive_only,
            self.only_what_is_needed_is_open,
            self.the_role_may_read_one_secret,
            self.the_key_is_the_operators_alone,
            self.everything_carries_our_tag,
        ):
            with self.subTest(look.__name__):
                look()

    def template(self):
        answer = self.cloud.client("ec2").describe_launch_template_versions(LaunchTemplateName="weave-ecs-launch-template")
        return answer["LaunchTemplateVersions"][0]["LaunchTemplateData"]

    def user_data(self):
        return base64.b64decode(self.template()["UserData"]).decode()

    def hosts_ask_for_tokens_and_give_containers_no_credentials(self):
        data = self.template()
        self.assertEqual(data["MetadataOptions"]["HttpTokens"], "required")
        self.assertEqual(data["MetadataOptions"]["HttpPutResponseHopLimit"], 1)
        self.assertEqual(data["InstanceType"], "t3.micro")
        recommended = "/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
        image = self.cloud.client("ssm").get_parameter(Name=recommended)["Parameter"]["Value"]
        self.assertEqual(data["ImageId"], image)

    def the_secret_is_in_the_parameter_store_alone(self):
        secret = self.cloud.client("ssm").get_parameter(Name="/weave-ecs/password", WithDecryption=True)["Parameter"]
        self.assertEqual(secret["Type"], "SecureString")
        self.assertEqual(len(base64.b64decode(secret["Value"])), 32)
        self.assertNotIn(secret["Value"], self.user_data())
        self.assertNotIn(secret["Value"], repr(self.cloud.words))
        self.assertIn("PASSWORD_PARAMETER=/weave-ecs/password\n", self.user_data())

    def hosts_install_that_archive_only(self):
        user_data = self.user_data()
        self.assertIn("s3://weave-ecs-123456789012-eu-west-1/weave-rs-ecs.tar.gz", user_data)
        self.assertIn(hashlib.sha256(self.archive.read_bytes()).hexdigest(), user_data)
        self.assertNotIn("@", user_data)

    def only_what_is_needed_is_open(self):
        own, world = self.rules()
        self.assertEqual(own, {("tcp", 6783, 6783), ("udp", 6783, 6784)})
        self.assertEqual(world, {("tcp", 80, 80, "0.0.0.0/0"), ("tcp", 22, 22, "192.0.2.1/32")})

    def rules(self):
        """Those for the group itself, and those for addresses."""
        found = self.cloud.client("ec2").describe_security_groups(GroupNames=["weave-ecs-demo"])["SecurityGroups"][0]
        own, world = set(), set()
        for it in found["IpPermissions"]:
            ports = (it["IpProtocol"], it["FromPort"], it["ToPort"])
            own |= {ports for pair in it["UserIdGroupPairs"] if pair["GroupId"] == found["GroupId"]}
            world |= {(*ports, one["CidrIp"]) for one in it["IpRanges"]}
        return own, world

    def the_role_may_read_one_secret(self):
        iam = self.cloud.client("iam")
        policy = iam.get_role_policy(RoleName="weave-ecs-role", PolicyName="weave-ecs-policy")["PolicyDocument"]
        secret = [it for it in policy["Statement"] if it["Action"] == "ssm:GetParameter"]
        self.assertEqual(secret[0]["Resource"], "arn:aws:ssm:eu-west-1:123456789012:parameter/weave-ecs/password")
        self.assertNotIn("*", {action for it in policy["Statement"] for action in it["Action"]})

    def the_key_is_the_operators_alone(self):
        key = self.folder / "weave-ecs-demo-key.pem"
        self.assertEqual(stat.S_IMODE(key.stat().st_mode), 0o600)
        self.assertIn("PRIVATE KEY", key.read_text())

    def everything_carries_our_tag(self):
        ec2 = self.cloud.client("ec2")
        tagged = ec2.describe_tags(Filters=[{"Name": "tag:weave-rs:demo", "Values": ["weave-ecs"]}])["Tags"]
        kinds = {it["ResourceType"] for it in tagged}
        self.assertLessEqual({"vpc", "subnet", "internet-gateway", "security-group", "launch-template", "instance"}, kinds)


if __name__ == "__main__":
    unittest.main()
