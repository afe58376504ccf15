#!/usr/bin/env python3
"""The example `list` against moto, another's imitation of AWS: python3 aws/tests/against_moto.py TARGET/debug/examples/list

Not part of `make test`, which installs nothing from PyPI: it wants `pip install 'moto[server]'`. The IMDS is a stand-in
of our own, since moto's has no identity document and does not ask for tokens.
"""

import http.server
import json
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import urllib.request

import boto3
from moto.server import ThreadedMotoServer

REGION = "eu-central-1"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}


class Imds(http.server.BaseHTTPRequestHandler):
    """Tokens, and the identity of one instance."""

    instance = ""

    def reply(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_PUT(self):
        self.reply(200, "token") if self.headers["x-aws-ec2-metadata-token-ttl-seconds"] else self.reply(400, "")

    def do_GET(self):
        if self.headers["x-aws-ec2-metadata-token"] != "token":
            return self.reply(401, "")
        document = {"accountId": "123456789012", "instanceId": self.instance, "region": REGION, "privateIp": "10.0.0.1"}
        return self.reply(200, json.dumps(document))

    def log_message(self, *_):
        pass


class Tls(http.server.BaseHTTPRequestHandler):
    """Passes questions on to moto, on a port that speaks TLS."""

    behind = ""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        question = urllib.request.Request(self.behind, body, dict(self.headers))
        with urllib.request.urlopen(question) as answer:
            body = answer.read()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def serve(handler, certificate=None):
    """A port of loopback where this is served."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def listed(binary, url, imds, instance, **more):
    Imds.instance = instance
    variables = KEYS | more | {"AWS_ENDPOINT_URL": url, "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds, "PATH": os.environ["PATH"]}
    return subprocess.run([binary], env=variables, capture_output=True, text=True, timeout=60)


def group(url, count):
    """An Auto Scaling group of so many instances, and the ids of these."""
    ec2, autoscaling = (boto3.client(name, endpoint_url=url) for name in ("ec2", "autoscaling"))
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    template = {"ImageId": image, "InstanceType": "t3.micro"}
    ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=template)
    autoscaling.create_auto_scaling_group(
        AutoScalingGroupName="web", MinSize=0, MaxSize=9, DesiredCapacity=count,
        LaunchTemplate={"LaunchTemplateName": "web", "Version": "$Latest"}, AvailabilityZones=[REGION + "a"])
    members = autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"][0]["Instances"]
    return ec2, autoscaling, sorted(member["InstanceId"] for member in members)


def check(condition, run):
    if not condition:
        sys.exit(f"unexpected: {run.stdout}{run.stderr}")


def main(binary):
    os.environ.update(KEYS)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    url = "http://{}:{}".format(*moto.get_host_and_port())
    base = f"http://127.0.0.1:{serve(Imds)}"
    ec2, autoscaling, ids = group(url, 3)

    run = listed(binary, url, base, ids[0])
    check(f'{ids[0]} in Group("web"): Some(3) desired, complete: true' in run.stdout, run)
    check(all(f"{one} " in run.stdout for one in ids) and run.stdout.count("running InService") == 3, run)

    ec2.terminate_instances(InstanceIds=[ids[1]])
    autoscaling.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=4)
    ec2.create_tags(Resources=ids, Tags=[{"Key": "weave:peerGroupName", "Value": "blue * green"}])
    run = listed(binary, url, base, ids[0])
    check('in Tag("blue * green"): Some(4) desired, complete: true' in run.stdout, run)
    check("terminated" in run.stdout and len(run.stdout.splitlines()) == 4, run)

    run = listed(binary, url, base, "i-0123456789abcdef0")
    check("i-0123456789abcdef0 is not in the answer" in run.stderr, run)
    Tls.behind = url
    with tempfile.TemporaryDirectory() as folder:
        certificate, pem = folder + "/certificate", folder + "/both"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=CA:FALSE",
                        "-keyout", folder + "/key", "-out", certificate], check=True, capture_output=True)
        with open(pem, "w") as both:
            both.writelines(open(part).read() for part in (folder + "/key", certificate))
        port = serve(Tls, pem)
        run = listed(binary, f"https://localhost:{port}", base, ids[0], SSL_CERT_FILE=certificate)
        check("Some(4) desired, complete: true" in run.stdout, run)
        run = listed(binary, f"https://127.0.0.1:{port}", base, ids[0], SSL_CERT_FILE=certificate)
        check("certificate" in run.stderr and "Unanswered" in run.stderr, run)
        run = listed(binary, f"https://localhost:{port}", base, ids[0])
        check("certificate" in run.stderr and "Unanswered" in run.stderr, run)

    print("moto and we agree")
    moto.stop()


main(sys.argv[1])
