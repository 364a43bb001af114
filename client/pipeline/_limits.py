"""Sizes that the wire API fixes; see proto/pipelined_api/v1."""

# All inputs, or all outputs, of one run.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
# One message of the Deploy stream.
CODE_CHUNK_BYTES = 1024 * 1024
