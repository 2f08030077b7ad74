"""What a call costs through Gatehouse, beside a plain proxy and a direct call: `make bench`, or `python -m bench --help`.

| module | does |
|---|---|
| `__main__` | reads the arguments and says what it does |
| `rounds` | measures every case in turn, round after round, and refuses what failed |
| `report` | ratios, medians and spreads, as a table and as docs/evidence/bench.md |
| `cases` | what is measured: the provider itself, nginx, other gateways, Gatehouse in each of its modes |
| `peers` | the other gateways, as `make bench-peers` installs them |
| `house` | an installation of Gatehouse of its own, with everything on |
| `processes` | starts, pins, weighs and stops processes |
| `upstream` | the provider that all cases call, `gateway.proofs.upstream`, by TLS if that is asked for |
| `load` | the callers, a process of its own |
"""
