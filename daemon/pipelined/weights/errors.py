"""What can be wrong with a weights file.

SafetensorError                of the safetensors package
  ├─ FormatError               .path, .tensor: the file, and the tensor at fault or ""
  │   ├─ HeaderTooSmall        there is no room for a header
  │   ├─ HeaderTooLarge        the header claims to be longer than the format allows
  │   ├─ HeaderTruncated       the file ends before its header does
  │   ├─ InvalidHeaderStart    the header does not start with "{"
  │   ├─ InvalidUtf8           the header is not UTF-8
  │   ├─ InvalidJson           the header is not JSON
  │   ├─ JsonTooDeep           the header is nested too deeply
  │   ├─ DuplicateKey          a key appears twice in one object of the header
  │   ├─ InvalidMetadata       __metadata__ is not an object of strings
  │   ├─ InvalidTensorInfo     the description of a tensor is incomplete or ill-typed
  │   ├─ UnknownDtype          an element type that neither we nor safetensors know
  │   ├─ UnsupportedDtype      an element type that has no counterpart in torch
  │   ├─ ShapeOverflow         the size that a shape asks for does not fit in 64 bits
  │   ├─ SizeMismatch          shape and dtype ask for another size than the offsets give
  │   ├─ InvalidOffsets        a tensor ends before it begins
  │   ├─ TensorHole            bytes between two tensors belong to neither
  │   ├─ TensorOverlap         two tensors claim the same bytes
  │   ├─ TruncatedFile         the file ends before its last tensor does
  │   └─ TrailingBytes         bytes after the last tensor belong to none
  └─ LoadError                 the file is well-formed, and the load did not end well
      ├─ FileChanged           .path: a file is no longer what it was when it was opened
      ├─ OverBudget            .needed, .allowed: more bytes of memory than there may be
      ├─ Cancelled             whoever wanted the bytes no longer does
      ├─ Asleep                the bytes are not in memory at the moment
      ├─ DriverMissing         .driver, .symbol: no CUDA driver, or one that lacks a function
      └─ CudaError             .call, .code, .name: what the CUDA driver refused, and how

A file that cannot be opened or read raises OSError (FileNotFoundError, PermissionError, …), as it
does from safetensors. A missing tensor and a closed file raise SafetensorError itself, likewise.
"""

from pipelined.weights._extension import extension

FormatError = extension.FormatError
HeaderTooSmall = extension.HeaderTooSmall
HeaderTooLarge = extension.HeaderTooLarge
HeaderTruncated = extension.HeaderTruncated
InvalidHeaderStart = extension.InvalidHeaderStart
InvalidUtf8 = extension.InvalidUtf8
InvalidJson = extension.InvalidJson
JsonTooDeep = extension.JsonTooDeep
DuplicateKey = extension.DuplicateKey
InvalidMetadata = extension.InvalidMetadata
InvalidTensorInfo = extension.InvalidTensorInfo
UnknownDtype = extension.UnknownDtype
UnsupportedDtype = extension.UnsupportedDtype
ShapeOverflow = extension.ShapeOverflow
SizeMismatch = extension.SizeMismatch
InvalidOffsets = extension.InvalidOffsets
TensorHole = extension.TensorHole
TensorOverlap = extension.TensorOverlap
TruncatedFile = extension.TruncatedFile
TrailingBytes = extension.TrailingBytes
LoadError = extension.LoadError
FileChanged = extension.FileChanged
OverBudget = extension.OverBudget
Cancelled = extension.Cancelled
Asleep = extension.Asleep
DriverMissing = extension.DriverMissing
CudaError = extension.CudaError
