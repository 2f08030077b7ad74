"""What other gateways had, brought here: providers, models, projects, accounts, and keys that go on opening the door.

Reading gives a `Plan` and changes nothing; `carrying` carries it out, all of it or none.

| module | does |
|---|---|
| `plan` | what would come here, what would not, and which rows are no good |
| `files` | rows out of CSV, JSON and JSON lines |
| `databases` | rows out of another gateway's SQLite or PostgreSQL |
| `amounts` | money, limits and times as others write them |
| `hashes` | a table of SHA-256 hashes |
| `litellm_keys`, `litellm_models` | LiteLLM's tables and its `config.yaml` |
| `one_api` | the tables of one-api and new-api |
| `upstreams` | what accounts and models of others are called here |
| `carrying` | from a plan to rows, in one transaction |
"""
