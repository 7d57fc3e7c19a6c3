"""Who may do what, and who did what: API tokens with scopes, and the audit log of administrative acts.

secret = Tokens(database).create("ci", [Scope.SUBMIT], by="cli:ops", client="laptop")  # shown once, kept as a hash
"""

from celeriac.access.audit import Act, AuditLog
from celeriac.access.tokens import Scope, Token, Tokens, token_hash

__all__ = ["Act", "AuditLog", "Scope", "Token", "Tokens", "token_hash"]
