"""setup.sh and cleanup.sh are ended at every place where that could matter: after each call that changes something."""

import signal
import unittest

from cloud import changes
from demo import READY, DemoTest


class Interrupted(DemoTest):
    maxDiff = None

    def test_cleanup_leaves_nothing_of_a_setup_that_was_killed_anywhere(self):
        """Each round begins where the one before has cleaned up, so every setup but the first is a second one."""
        count = 0
        while True:
            count += 1
            code, output, _ = self.run_killed("setup.sh", is_last=self.after_changes(count))
            last = self.cloud.calls[-1]
            self.succeed("cleanup.sh")
            self.assert_nothing_left(f"setup.sh was killed after {last}")
            if code == 0:
                self.assertEqual(output[: len(READY)], READY)
                break
        # All of what a set-up takes, and none of it twice.
        self.assertGreaterEqual(count, 22)

    def test_a_setup_that_was_killed_anywhere_is_completed_by_the_next(self):
        """Killed, run again, killed after the next thing that is new: until it goes through."""
        rounds, is_new = 0, self.not_seen_before()
        while self.run_killed("setup.sh", is_last=is_new)[0] != 0:
            rounds += 1
        self.assertGreaterEqual(rounds, 20)
        made = {kind: len(names) for kind, names in self.cloud.inventory().items()}
        self.assertEqual({kind: count for kind, count in made.items() if count != 1}, {"instance": 3})
        self.assertEqual(len(made), 15)
        self.succeed("cleanup.sh")
        self.assert_nothing_left()

    def test_a_cleanup_that_was_killed_anywhere_is_completed_by_the_next(self):
        self.succeed("setup.sh")
        rounds, is_new = 0, self.not_seen_before()
        while self.run_killed("cleanup.sh", is_last=is_new)[0] != 0:
            rounds += 1
        self.assertGreaterEqual(rounds, 18)
        self.assert_nothing_left()

    def test_a_signal_rolls_back(self):
        for how, code in [(signal.SIGTERM, 143), (signal.SIGINT, 130)]:
            is_last = lambda operation: operation == "CreateLaunchTemplate"  # noqa: E731
            ended, output, errors = self.run_killed("setup.sh", is_last, how)
            self.assertEqual(ended, code, errors)
            self.assertIn("Removing template again .. done", output, errors)
            self.assertIn("setup.sh: ended by a signal\n", errors)
            self.assert_nothing_left()

    def not_seen_before(self):
        """Holds of the first call of each kind that changes something."""
        seen = set()

        def is_last(operation):
            new = changes(operation) and operation not in seen
            seen.add(operation)
            return new

        return is_last

    def after_changes(self, count):
        """Holds of the last one of so many calls that change something."""
        seen = []

        def is_last(operation):
            if changes(operation):
                seen.append(operation)
            return len(seen) == count

        return is_last


if __name__ == "__main__":
    unittest.main()
