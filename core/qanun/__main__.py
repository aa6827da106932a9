"""`python -m qanun`."""

from qanun.cli import main

raise SystemExit(main())
