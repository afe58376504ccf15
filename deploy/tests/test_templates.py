"""The same infrastructure three times: the scripts, CloudFormation and Terraform must not drift apart."""

import json
import subprocess
import sys
import unittest
from pathlib import Path

import hcl2
import yaml

DEPLOY = Path(__file__).resolve().parent.parent
STACK = DEPLOY / "cloudformation" / "weave-ecs.yaml"


def unquoted(value):
    """What the parser of Terraform's language reads, without the quotes that it keeps around strings."""
    if isinstance(value, dict):
        return {unquoted(key): unquoted(it) for key, it in value.items()}
    if isinstance(value, list):
        return [unquoted(it) for it in value]
    return value.strip('"') if isinstance(value, str) else value


def terraform(*folders):
    files = sorted(path for folder in folders for path in (DEPLOY / folder).iterdir() if path.name.endswith((".tf", ".hcl")))
    return {path.name: unquoted(hcl2.loads(path.read_text())) for path in files}


def stack():
    class Loader(yaml.SafeLoader):
        pass

    # What a short form such as !Ref stands for does not matter here.
    Loader.add_multi_constructor("!", lambda loader, suffix, node: suffix)
    return yaml.load(STACK.read_text(), Loader)["Resources"]


def policy():
    return json.loads((DEPLOY / "ecs" / "data" / "policy.json").read_text())


def actions(statements, sid="Sid", action="Action"):
    """Statement -> what it allows; the archive is the scripts' alone."""
    listed = {it[sid]: it[action] if isinstance(it[action], list) else [it[action]] for it in statements}
    return {name: sorted(them) for name, them in listed.items() if name != "ReadArchive"}


class Templates(unittest.TestCase):
    def test_cloudformation_has_no_fault(self):
        lint = [Path(sys.executable).with_name("cfn-lint"), "--regions", "eu-west-1", "us-east-1", "--", str(STACK)]
        done = subprocess.run(lint, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)

    def test_terraform_and_packer_can_be_read(self):
        for name, content in terraform("terraform", "packer").items():
            self.assertTrue(content, name)

    def test_a_role_may_do_the_same_everywhere(self):
        expected = actions(policy()["Statement"])
        role = stack()["Role"]["Properties"]["Policies"][0]["PolicyDocument"]
        self.assertEqual(actions(role["Statement"]), expected)
        documents = [it["aws_iam_policy_document"] for it in terraform("terraform")["role.tf"]["data"]]
        host = next(it["host"] for it in documents if "host" in it)
        self.assertEqual(actions(host["statement"], "sid", "actions"), expected)

    def test_hosts_demand_tokens_everywhere(self):
        data = stack()["Template"]["Properties"]["LaunchTemplateData"]["MetadataOptions"]
        self.assertEqual(data, {"HttpTokens": "required", "HttpPutResponseHopLimit": 1})
        resources = terraform("terraform")["main.tf"]["resource"]
        template = next(it["aws_launch_template"]["demo"] for it in resources if "aws_launch_template" in it)
        self.assertEqual(template["metadata_options"][0]["http_tokens"], "required")
        self.assertEqual(template["metadata_options"][0]["http_put_response_hop_limit"], 1)
        source = terraform("packer")["weave-ecs.pkr.hcl"]["source"][0]["amazon-ebs"]["host"]
        self.assertEqual(source["metadata_options"][0]["http_tokens"], "required")

    def test_images_are_made_for_both_architectures(self):
        build = terraform("packer")["weave-ecs.pkr.hcl"]["build"][0]
        names = {it["amazon-ebs.host"]["name"] for it in build["source"]}
        self.assertEqual(names, {"x86_64", "arm64"})


if __name__ == "__main__":
    unittest.main()
