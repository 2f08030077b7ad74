"""What both OpenAPI documents are made with: schemas, the generator, and the page that shows one."""
