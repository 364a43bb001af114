"""Bounds that the client and the daemon have to agree on."""

# The largest message, in bytes, that carries the inputs or the outputs of one run.
MAX_MESSAGE_BYTES = 64 * 2**20
# What gRPC lets through beyond it, so that a message that is too large is refused by name.
MAX_ENVELOPE_BYTES = 2**20
# The largest chunk of code in one message of a Deploy stream.
CODE_CHUNK_BYTES = 2**20
# The largest content, in bytes, of a File that travels inside a message; larger ones are uploaded.
MAX_INLINE_FILE_BYTES = 2**20
# The largest chunk of a file in one message of an Upload or a Download.
FILE_CHUNK_BYTES = 2**20
# The largest archive of a folder, in bytes, and how many files and folders it may have.
MAX_BUNDLE_BYTES = 256 * 2**20
MAX_BUNDLE_ENTRIES = 10_000
# Contents that the inputs of one run may refer to: each is an open file in the worker.
MAX_FILES_PER_RUN = 256
# Runs in one answer of Runs.List.
MAX_RUNS_LISTED = 1000
