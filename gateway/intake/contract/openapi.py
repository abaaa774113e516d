"""
The OpenAPI 3.1 document of the sender interface, built from the routes and what the contract says of each.

Schemas are JSON Schema 2020-12. Descriptions are plain text with `code` between grave accents; a blank line ends a
paragraph.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from gateway.domain.ids import parse_correlation_id
from gateway.errors import Kind
from gateway.intake.caller import ON_BEHALF_OF
from gateway.intake.contract.account_operations import CONTRACT_OPERATIONS, DOSSIER_OPERATIONS, account_operations
from gateway.intake.contract.account_schemas import ACCOUNT_SCHEMAS
from gateway.intake.contract.facts import Facts
from gateway.intake.contract.letter_operations import letter_operations
from gateway.intake.contract.letter_schemas import LETTER_SCHEMAS
from gateway.intake.contract.operation import Answer, Content, Group, Operation, Parameter
from gateway.intake.contract.problem_schemas import NOTES, problem_of, problem_schemas
from gateway.intake.contract.proof_operations import PROOF_OPERATIONS
from gateway.intake.contract.proof_schemas import PROOF_SCHEMAS
from gateway.intake.contract.shapes import ref, text
from gateway.intake.problems import CONTENT_TYPE, PROBLEMS
