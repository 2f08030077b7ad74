"""The bodies of a tenant's doors as JSON Schema. What the admin API says alike stands in `gateway/shapes`."""
