"""Time and memory of building a simulated log.

Run with `python bench/simulate.py [--users 10000] [--items 2000] [--domain shop]`; the goal is
10,000 users x 2,000 items in under 10 seconds on two cores and under 1.5 GiB.
"""

import argparse
import resource
import time

from irec_jax.log.simulate import SimulateConfig, SimulatedWorld


def main() -> None:
    """Builds one log and prints one line per step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--domain", default="shop")
    options = parser.parse_args()
    config = SimulateConfig(domain=options.domain, users=options.users, items=options.items)
    wall, cpu = time.perf_counter(), time.process_time()
    world = SimulatedWorld.build(config)
    print(f"world        {time.perf_counter() - wall:6.2f} s")
    log = world.log()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"and its log  {wall:6.2f} s wall, {cpu:6.2f} s CPU")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory  {peak:6.2f} GiB, interpreter and libraries included")
    events = log.interactions.height
    print(f"{events} events, {events / wall:.0f} per second")


if __name__ == "__main__":
    main()
