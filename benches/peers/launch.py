"""Runs one command and prints what it used: launch.py SECONDS BYTES STDOUT STDERR COMMAND...

It imports next to nothing, because the peak memory of a process begins with that of the process which started it. The command
is killed after SECONDS, and cannot get more than BYTES of memory.
"""

import json
import os
import resource
import signal
import sys
import time


def main(limit, memory, out, err, *command):
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    write = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [(os.POSIX_SPAWN_OPEN, 1, out, write, 0o600), (os.POSIX_SPAWN_OPEN, 2, err, write, 0o600)]
    timed_out = []
    start = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ, file_actions=files, setpgroup=0)

    def kill(*_):
        timed_out.append(True)
        os.killpg(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, kill)
    signal.setitimer(signal.ITIMER_REAL, float(limit))
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    signal.setitimer(signal.ITIMER_REAL, 0)
    result = {
        "seconds": seconds,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss / 1024,
        "code": os.waitstatus_to_exitcode(status),
        "timed_out": bool(timed_out),
    }
    print(json.dumps(result))


main(*sys.argv[1:])
