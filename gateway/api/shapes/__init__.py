"""The admin API's bodies as JSON Schema: what is taken, by the rules of the services, and what `gateway/api/bodies` write."""
