"""Runs the cases of scripts/conformance: h2_conformance.py NAME PROGRAM CERTIFICATES [--only WORD] [--times] [--told].

Cases that do not measure run at once, some at a time, in front of one proxy and one origin; floods follow one by one. Prints what
failed and why, and the counts of each group. Ends with 1 if something failed or was lax.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import tempfile
import time

import h1_tls
import h2_floods
import h2_framing
import h2_judge
import h2_origin
import h2_proxies
import h2_random
import h2_resets
import h2_responses
import h2_smuggling
import h2_windows

AT_ONCE = 16
MODULES = [h2_smuggling, h2_framing, h2_resets, h2_responses, h2_random, h2_windows, h1_tls, h2_floods]


def run_all(world, cases):
    """Each case with what is wrong with it, or nothing, whether that is only lax, its seconds, and what became of it."""

    def run(case):
        begun = time.monotonic()
        own = dataclasses.replace(world)
        wrong, is_lax = h2_judge.run_case(case, own)
        if world.process.poll() is not None:
            wrong, is_lax = f"{wrong or 'passed'}; the proxy has ended with {world.process.returncode}", False
        return case, wrong, is_lax, time.monotonic() - begun, own.told

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(run, [case for case in cases if not case.alone]))
    return results + [run(case) for case in cases if case.alone]


def report(name, results, with_times, with_told):
    """Prints them; returns how many failed, and how many were lax."""
    counts, failed, lax = collections.Counter(), collections.Counter(), collections.Counter()
    for case, wrong, is_lax, seconds, told in results:
        counts[case.group] += 1
        failed[case.group] += bool(wrong) and not is_lax
        lax[case.group] += is_lax
        if wrong:
            print(f"{name}: {case.group}: {case.name}: {'LAX: ' if is_lax else ''}{wrong}")
        if with_told and told:
            print(f"{name}: {case.group}: {case.name}: told: {told}")
        if with_times and seconds > 1:
            print(f"{name}: {case.group}: {case.name}: {seconds:.1f} s")
    for group, count in counts.items():
        print(f"{name}: {group}: {count - failed[group]} of {count}, {lax[group]} lax")
    print(f"{name}: {counts.total() - failed.total()} of {counts.total()} passed, {lax.total()} of them lax")
    return failed.total(), lax.total()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=h2_proxies.PROXIES)
    parser.add_argument("program")
    parser.add_argument("certificates")
    parser.add_argument("--only", default="", metavar="WORD")
    parser.add_argument("--times", action="store_true", help="what took more than a second")
    parser.add_argument("--told", action="store_true", help="what became of each case")
    args = parser.parse_args()
    cases = [case for module in MODULES for case in module.CASES if args.only.lower() in f"{case.group}: {case.name}".lower()]
    origin = h2_origin.Origin()
    with tempfile.TemporaryDirectory() as directory:
        print(h2_proxies.version(args.name, args.program), flush=True)
        with h2_proxies.running(args.name, args.program, origin.port, args.certificates, directory) as (port, process):
            begun = time.monotonic()
            world = h2_judge.World(args.name, port, process, origin)
            failed, lax = report(args.name, run_all(world, cases), args.times, args.told)
            strays = [what for tokens, what in origin.garbage if not any(tokens)]
            for what in strays:
                print(f"{args.name}: of no case: {what}")
            print(f"{args.name}: {time.monotonic() - begun:.0f} s", flush=True)
    return 1 if failed or strays or lax else 0


if __name__ == "__main__":
    raise SystemExit(main())
