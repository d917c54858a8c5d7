"""The codec between our dataclasses and protobuf, and the generated protobuf code."""
