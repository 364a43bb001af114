"""Version 1 of the API: generated modules beside their .proto files."""
