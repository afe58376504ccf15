"""What the tests of setup.sh and cleanup.sh have in common: a cloud, a folder to run in, and the two scripts."""

import os
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

from cloud import Cloud

TESTS = Path(__file__).resolve().parent
ECS = TESTS.parent / "ecs"
# Far more than a script takes on a slow machine.
SCRIPT_TIMEOUT = 300

READY = """\
Creating ECS cluster (weave-ecs-demo-cluster) .. done
Creating VPC (weave-ecs-demo-vpc) .. done
Creating Subnet (weave-ecs-demo-subnet) .. done
Creating Internet Gateway (weave-ecs-demo) .. done
Creating Security Group (weave-ecs-demo) .. done
Creating Key Pair (weave-ecs-demo, file weave-ecs-demo-key.pem) .. done
Creating Secret (/weave-ecs/password) .. done
Creating IAM role (weave-ecs-role) .. done
Uploading weave-rs (weave-ecs-123456789012-eu-west-1) .. done
Creating Launch Template (weave-ecs-launch-template) .. done
Creating Auto Scaling Group (weave-ecs-demo-group) with 3 instances .. done
Waiting for instances to join the cluster (this may take a few minutes) .. done
Registering ECS Task Definition (weave-ecs-demo-task) .. done
Creating ECS Service with 3 tasks (weave-ecs-demo-service) .. done
Waiting for tasks to start running .. done
Setup is ready!
Open your browser and go to any of these URLs:
"""


class DemoTest(unittest.TestCase):
    """A test with an empty account and an empty folder."""

    @classmethod
    def setUpClass(cls):
        cls.cloud = Cloud()
        # Who was started in the background ignores it, and so would every script.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    @classmethod
    def tearDownClass(cls):
        cls.cloud.close()

    def setUp(self):
        self.cloud.reset()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.archive = self.folder / "archive.tar.gz"
        self.archive.write_text("an archive")

    def environment(self, **settings):
        ours = dict(
            PATH=f"{TESTS / 'bin'}:{os.environ['PATH']}",
            CLOUD_PORT=str(self.cloud.port),
            WEAVE_ECS_ARCHIVE=str(self.archive),
            WEAVE_ECS_POLL="0.05",
            WEAVE_ECS_DEADLINE="30",
        )
        return {**os.environ, **ours, **settings}

    def start(self, script, **settings):
        """In a session of its own, so that it can be ended with everything it runs."""
        return subprocess.Popen(
            [ECS / script], cwd=self.folder, env=self.environment(**settings), text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )

    def run_script(self, script, **settings):
        """Its exit code, output and errors."""
        process = self.start(script, **settings)
        output, errors = process.communicate(timeout=SCRIPT_TIMEOUT)
        return process.returncode, output, errors

    def succeed(self, script, **settings):
        code, output, errors = self.run_script(script, **settings)
        self.assertEqual((code, errors), (0, ""), output)
        return output

    def run_killed(self, script, is_last, how=signal.SIGKILL, **settings):
        """Ended after the first call of which `is_last` holds; the exit code, output and errors."""
        process = self.start(script, **settings)

        def after(operation):
            if is_last(operation):
                self.cloud.after_call = None
                os.killpg(process.pid, how)

        self.cloud.after_call = after
        output, errors = process.communicate(timeout=SCRIPT_TIMEOUT)
        self.cloud.after_call = None
        return process.returncode, output, errors

    def assert_nothing_left(self, context=""):
        self.assertEqual(self.cloud.inventory(), {}, context)
        self.assertEqual(sorted(it.name for it in self.folder.iterdir()), ["archive.tar.gz"], context)
