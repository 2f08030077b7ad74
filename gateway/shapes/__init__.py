"""What bodies look like, as far as the two documents, the admin API's and the tenants', say the same of them."""
