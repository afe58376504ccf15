"""An AWS on loopback that can be told to misbehave, and the AWS CLI in front of it.

    setup.sh -> bin/aws -> Cloud (the real CLI's code, kept loaded) -> faults -> moto
                                                                       agents -> moto

The agents of ECS are not moto's: `Agents` stands for them, and has the hosts of a group join the cluster that their user
data names.
"""

import base64
import contextlib
import functools
import io
import json
import logging
import os
import pickle
import re
import socketserver
import threading

# Before moto is loaded: its services run their tasks, of which it has none.
os.environ.update(
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_DEFAULT_REGION="eu-west-1",
    AWS_EC2_METADATA_DISABLED="true",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    MOTO_ECS_SERVICE_RUNNING="3",
)

import boto3  # noqa: E402
import urllib3  # noqa: E402
from awscli.clidriver import create_clidriver  # noqa: E402
from botocore.exceptions import ClientError  # noqa: E402
from moto.ec2.models.launch_templates import LaunchTemplateVersion  # noqa: E402
from moto.ec2.utils import parse_user_data  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402


# It takes user data of a template's first version only (5.2.5).
def _user_data(version):
    data = version.data.get("UserData")
    return parse_user_data(data) if isinstance(data, str) else data


LaunchTemplateVersion.user_data = property(_user_data)

logging.getLogger("werkzeug").setLevel(logging.ERROR)

# Loads what the CLI knows of each service, once for all calls.
WARMING = (
    "ec2 describe-vpcs", "ecs list-clusters", "iam list-roles", "ssm describe-parameters", "sts get-caller-identity",
    "s3api list-buckets", "autoscaling describe-auto-scaling-groups",
)
# Commands after which the CLI, made for one call, takes no other of their service.
LASTING = {"modify-vpc-attribute"}
LOOKS = ("Describe", "Get", "List", "Head")
# Amazon's own parameters are there, too.
OURS = {"Key": "Name", "Option": "BeginsWith", "Values": ["/weave"]}
DENIALS = {"ec2": "UnauthorizedOperation", "ecs": "AccessDeniedException", "ssm": "AccessDeniedException"}


def changes(operation):
    return not operation.startswith(LOOKS)


class Cloud:
    """moto on an ephemeral port of loopback, and a server of AWS CLI calls."""

    def __init__(self):
        self._moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._moto.start()
        host, port = self._moto.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        os.environ["AWS_ENDPOINT_URL"] = self.endpoint
        self.agents = Agents(self)
        self._driver = create_clidriver()
        self._driver.session.register("before-call", self._before_call)
        self._keep_clients(self._driver.session)
        self.reset()
        for words in WARMING:
            self._cli(words.split())
        self.calls = []
        self._calls = socketserver.TCPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._calls.serve_forever, daemon=True).start()

    def _keep_clients(self, session):
        """Most of a call's time goes into making what it calls with."""
        make, made = session.create_client, {}

        def create_client(service, *words, **options):
            if service not in made:
                made[service] = make(service, *words, **options)
            return made[service]

        session.create_client = create_client

    def reset(self):
        """An empty account, without faults."""
        urllib3.request("POST", f"{self.endpoint}/moto-api/reset", timeout=60, retries=False)
        self.denied = set()
        self.calls = []
        self.words = []
        self.after_call = None
        self.agents.present = True

    def close(self):
        self._calls.shutdown()
        self._calls.server_close()
        self._moto.stop()

    @functools.cache  # noqa: B019 - as many as there are services.
    def client(self, service):
        return boto3.client(service, endpoint_url=self.endpoint)

    @property
    def port(self):
        return self._calls.server_address[1]

    def _before_call(self, model, **_):
        operation = model.name
        self.calls.append(operation)
        if operation in self.denied:
            service = model.service_model.service_name
            code = "403" if operation == "HeadBucket" else DENIALS.get(service, "AccessDenied")
            raise ClientError({"Error": {"Code": code, "Message": "You may not."}}, operation)

    def run(self, words, stdin, folder):
        """One call of the CLI: its exit code, output and errors."""
        words = [word.replace("/dev/stdin", stdin) for word in words]
        self.words.append(words)
        if "describe-clusters" in words:
            self.agents.join()
        before = len(self.calls)
        os.chdir(folder)
        answer = self._apart(words) if LASTING & set(words) else self._cli(words)
        if self.after_call and len(self.calls) > before:
            self.after_call(self.calls[-1])
        return answer

    def _apart(self, words):
        """In a process of its own, of which nothing stays."""
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            self.calls = []
            answer = self._cli(words)
            with open(theirs, "wb") as pipe:
                pickle.dump((self.calls, answer), pipe)
            os._exit(0)
        os.close(theirs)
        with open(ours, "rb") as pipe:
            calls, answer = pickle.load(pipe)
        os.waitpid(child, 0)
        self.calls += calls
        return answer

    def _cli(self, words):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = self._driver.main(words)
            except SystemExit as end:
                code = end.code
        return code, out.getvalue().encode(), err.getvalue().encode()

    def _handler(cloud):
        class Call(socketserver.StreamRequestHandler):
            def _word(self):
                word = bytearray()
                while (octet := self.rfile.read(1)) not in (b"\0", b""):
                    word += octet
                return word.decode()

            def handle(self):
                count, stdin, folder = (self._word() for _ in range(3))
                code, out, err = cloud.run([self._word() for _ in range(int(count))], stdin, folder)
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(b"%d %d\n" % (code, len(out)) + out + err)

        return Call

    def inventory(self):
        """All that somebody would have to remove: kind -> names."""
        ec2, ecs, iam = self.client("ec2"), self.client("ecs"), self.client("iam")
        definitions = [ecs.list_task_definitions(status=status)["taskDefinitionArns"] for status in ("ACTIVE", "INACTIVE")]
        states = ["pending", "running", "stopping", "stopped"]
        reservations = ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": states}])["Reservations"]
        clusters = ecs.describe_clusters(clusters=ecs.list_clusters()["clusterArns"])["clusters"]
        groups = self.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        everything = {
            "cluster": [it["clusterName"] for it in clusters if it["status"] == "ACTIVE"],
            "vpc": [it["VpcId"] for it in ec2.describe_vpcs()["Vpcs"] if not it["IsDefault"]],
            "subnet": [it["SubnetId"] for it in ec2.describe_subnets()["Subnets"] if not it["DefaultForAz"]],
            "gateway": [it["InternetGatewayId"] for it in ec2.describe_internet_gateways()["InternetGateways"]],
            "security group": [
                it["GroupId"] for it in ec2.describe_security_groups()["SecurityGroups"] if it["GroupName"] != "default"
            ],
            "key pair": [it["KeyName"] for it in ec2.describe_key_pairs()["KeyPairs"]],
            "secret": [it["Name"] for it in self.client("ssm").describe_parameters(ParameterFilters=[OURS])["Parameters"]],
            "role": [it["RoleName"] for it in iam.list_roles()["Roles"]],
            "profile": [it["InstanceProfileName"] for it in iam.list_instance_profiles()["InstanceProfiles"]],
            "bucket": [it["Name"] for it in self.client("s3").list_buckets()["Buckets"]],
            "template": [it["LaunchTemplateName"] for it in ec2.describe_launch_templates()["LaunchTemplates"]],
            "group": [it["AutoScalingGroupName"] for it in groups],
            "instance": [it["InstanceId"] for one in reservations for it in one["Instances"]],
            "task": [arn for arns in definitions for arn in arns],
            "service": [
                arn for it in clusters if it["status"] == "ACTIVE"
                for arn in ecs.list_services(cluster=it["clusterName"])["serviceArns"]
            ],
        }
        return {kind: sorted(names) for kind, names in everything.items() if names}


class Agents:
    """The ECS agents of all hosts that a launch template made."""

    def __init__(self, cloud):
        self._cloud = cloud
        self.present = True
        self._stopped = threading.Event()

    def join(self):
        """Every host that is not in its cluster yet registers there."""
        if not self.present:
            return
        for group in self._cloud.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]:
            cluster = self._cluster(group["LaunchTemplate"])
            for instance in set(it["InstanceId"] for it in group["Instances"]) - self._members(cluster):
                document = json.dumps({"instanceId": instance})
                self._cloud.client("ecs").register_container_instance(cluster=cluster, instanceIdentityDocument=document)

    def _cluster(self, template):
        versions = self._cloud.client("ec2").describe_launch_template_versions(
            LaunchTemplateId=template["LaunchTemplateId"], Versions=[template["Version"]]
        )
        data = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        return re.search(r"^ECS_CLUSTER=(.*)$", base64.b64decode(data["UserData"]).decode(), re.MULTILINE)[1]

    def _members(self, cluster):
        ecs = self._cloud.client("ecs")
        arns = ecs.list_container_instances(cluster=cluster)["containerInstanceArns"]
        if not arns:
            return set()
        found = ecs.describe_container_instances(cluster=cluster, containerInstances=arns)["containerInstances"]
        return {it["ec2InstanceId"] for it in found}

    @contextlib.contextmanager
    def joining_by_themselves(self, interval=0.5):
        """For calls that do not come by `Cloud.run`."""
        stop = threading.Event()

        def work():
            while not stop.wait(interval):
                with contextlib.suppress(ClientError):
                    self.join()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
