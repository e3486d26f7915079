"""What a version is made of: bytes that are the same each time, its code, its libraries.

Whose bytes may be opened is the registry's word; nothing here reads the record.
"""

from nightshift.artifacts.canonical import to_bytes
from nightshift.artifacts.code import PREFIX, Code, LegacyCode, code_changes
from nightshift.artifacts.libraries import differences, refuse_differing_libraries, rules_of
from nightshift.artifacts.pipelines import LoadedVersion, Predictions, missing_text
from nightshift.artifacts.predicting import predict
