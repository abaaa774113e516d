"""
The contract as one page to read: HTML with its style inside, without scripts and without anything from elsewhere.

It is rendered from the OpenAPI document alone (and the example message), so that it cannot say anything else.
"""

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup, escape

from gateway.errors import Kind
from gateway.intake.contract.openapi import UNROUTED
from gateway.intake.contract.problem_schemas import NOTES
from gateway.intake.contract.shapes import COMPONENTS
from gateway.intake.problems import PROBLEMS

_HERE: Final = Path(__file__).parent
_CODE: Final = re.compile(r"`([^`]+)`")
_METHODS: Final = ("get", "post")
