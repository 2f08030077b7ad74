"""Proofs that an operator can run: `manage.py prove …` makes a throw-away installation sweat, and says what came of it.

| module | does |
|---|---|
| `grounds` | a folder, secrets and a database of one's own, and the environment of what runs there |
| `house` | the processes there: commands, the server, the provider; and the admin API |
| `upstream` | a provider of known cost, a process of its own (`make bench` measures with it too) |
| `callers` | callers who all begin at once and try again while only holds are in their way |
| `witness` | reads the balances from outside, over and over |
| `subjects` | whose budget it is |
| `budget` | the proof that a budget is never passed, and used up to the last call |
| `report` | what came of it |
| `isolation` | the proof that tenants are apart |
| `doors` | every route and method, and what can be tried there |
| `sides` | tenants with one of everything |
| `prying` | one tries, and is answered as if there were no such thing |
"""
