"""Bounds that the client and the daemon have to agree on."""

# The largest message, in bytes, that carries the inputs or the outputs of one run.
MAX_MESSAGE_BYTES = 64 * 2**20
# What gRPC lets through beyond it, so that a message that is too large is refused by name.
MAX_ENVELOPE_BYTES = 2**20
# The largest chunk of code in one message of a Deploy stream.
CODE_CHUNK_BYTES = 2**20
# The largest content, in bytes, of a File that travels inside a message; larger ones are uploaded.
MAX_INLINE_FILE_BYTES = 2**20
# The largest tensor, image or bytes inside a message, in bytes; larger ones go beside it.
MAX_INLINE_BYTES = 16 * 2**20
# What goes beside a message that would be too large otherwise.
MAX_CROWDED_INLINE_BYTES = 64 * 2**10
# The largest chunk of a file in one message of an Upload or a Download.
FILE_CHUNK_BYTES = 2**20
# The largest archive of a folder, in bytes, and how many files and folders it may have.
MAX_BUNDLE_BYTES = 256 * 2**20
MAX_BUNDLE_ENTRIES = 10_000
# Contents that the inputs of one run may refer to: each is an open file in the worker.
MAX_FILES_PER_RUN = 1024
# Files and empty folders in one Directory.
MAX_DIRECTORY_ENTRIES = 10_000
# Bytes in the path of one of these, and in one name of it.
MAX_PATH_BYTES = 1024
MAX_NAME_BYTES = 255
# Characters in the address of a File.
MAX_URL_LENGTH = 4096
# Runs in one answer of Runs.List.
MAX_RUNS_LISTED = 1000

# Of a run in the queue of its deployment.
LEAST_PRIORITY = -10
MOST_PRIORITY = 10
