"""Programs that carry AddressSanitizer and UndefinedBehaviorSanitizer: `./tools/test LEVEL --sanitized` says so in the
environment. They take several times the processor time and memory, so that bounds of these two are not judged; and
before they end they look for leaks.
"""
import os
import signal
import subprocess

SANITIZED = "WARREN_SANITIZED" in os.environ
SLOWER = 10            # times, at the most, on a machine that does much else
REPORT_SECONDS = 20    # for the report of one that has to be aborted


def patience(seconds):
    """So long, or what that is for programs that are slower."""
    return seconds * SLOWER if SANITIZED else seconds


def ended(process, seconds):
    """The exit status of a process that was told to end; it is killed if it has not ended after so long. One under
    sanitizers is aborted instead, which makes a report: killed, it could not tell of its leaks."""
    try:
        return process.wait(patience(seconds))
    except subprocess.TimeoutExpired:
        pass
    if SANITIZED:
        process.send_signal(signal.SIGABRT)
        try:
            return process.wait(REPORT_SECONDS)
        except subprocess.TimeoutExpired:
            pass
    process.kill()
    return process.wait()
