"""`python -m tests.load NAME …`: one measurement, printed as a table; ends with 1 when a figure is above its bar."""

import sys
from importlib import import_module

_MEASUREMENTS = {
    "engine": "the data plane alone, to find where a packet's microseconds go",
    "sfu": "CPU of the media worker per delivered packet, beside Debian's Janus",
    "rooms": "rooms of three on one core: how many, what a packet costs, how late it is; people who only wait",
    "soak": "thousands who join a media worker and leave it in every way there is: what stays behind",
    "calls": "from admit to the first picture, and back from a killed media worker",
    "chart": "the chart as a whole page under load, memory, cold start, first-load script size",
    "backup": "a large clinic saved, proven and restored onto a blank machine",
    "box": "the whole box as a container, and a stock server by the playbooks: how soon they are there, and what they need",
    "playbooks": "install.yml and configure.yml on a stock server: first and second run, what the second changes",
}


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in _MEASUREMENTS:
        print("usage: python -m tests.load NAME [options]\n")
        for name, meaning in _MEASUREMENTS.items():
            print(f"  {name:11}{meaning}")
        return 2
    return int(import_module(f"tests.load.{sys.argv[1]}").main(sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
