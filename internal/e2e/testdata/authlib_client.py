"""An OAuth client of the admin API, by Authlib as it is published.

It ends with an error where an answer is not what OAuth says, and else prints a line
for each step.
"""
import os

from authlib.integrations.requests_client import OAuth2Session
from authlib.integrations.base_client.errors import OAuthError

base = os.environ["BASE"]
client_id = os.environ["CLIENT_ID"]
secret = os.environ["CLIENT_SECRET"]
algorithm = os.environ["ALGORITHM"]
token_url = base + "/oauth/token"
exchange = "urn:ietf:params:oauth:grant-type:token-exchange"


def session(method, **more):
    return OAuth2Session(client_id, secret, token_endpoint_auth_method=method, token_endpoint=token_url, **more)


def active(client, token):
    answer = client.introspect_token(base + "/oauth/introspect", token=token)
    answer.raise_for_status()
    return answer.json()


for method in ("client_secret_basic", "client_secret_post"):
    client = session(method)
    token = client.fetch_token(token_url, grant_type="client_credentials")
    assert token["token_type"] == "Bearer" and token["expires_in"] == 900, token
    assert "refresh_token" not in token, token
    seen = active(client, token["access_token"])
    assert seen["active"] and seen["client_id"] == client_id, seen
    print(method, "obtains and introspects")

client = session("client_secret_basic")
first = client.fetch_token(
    token_url,
    grant_type=exchange,
    subject_token="amy",
    subject_token_type="urn:portcullis:params:oauth:token-type:user",
)
assert first["issued_token_type"] == "urn:ietf:params:oauth:token-type:access_token", first
seen = active(client, first["access_token"])
assert seen["active"] and seen["sub"] == "amy", seen
assert active(client, first["refresh_token"])["active"]

second = client.refresh_token(token_url, refresh_token=first["refresh_token"])
assert second["refresh_token"] != first["refresh_token"], "the refresh token was not rotated"
assert second["access_token"] != first["access_token"]
assert active(client, second["access_token"])["active"]
assert not active(client, first["refresh_token"])["active"]
print("exchanges and refreshes")

if algorithm != "HS256":
    import requests
    from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
    from joserfc import jwt
    from joserfc.jwk import KeySet

    found = requests.get(base + "/.well-known/oauth-authorization-server", timeout=10)
    found.raise_for_status()
    metadata = AuthorizationServerMetadata(found.json())
    assert metadata["issuer"] == os.environ["ISSUER"], metadata
    assert metadata["token_endpoint"] == os.environ["ISSUER"] + "/oauth/token", metadata
    keys = KeySet.import_key_set(requests.get(base + "/.well-known/jwks.json", timeout=10).json())
    decoded = jwt.decode(second["access_token"], keys, algorithms=[algorithm])
    assert decoded.header["typ"] == "at+jwt", decoded.header
    for name in ("iss", "sub", "aud", "client_id", "exp", "iat", "jti"):
        assert name in decoded.claims, (name, decoded.claims)
    assert decoded.claims["iss"] == os.environ["ISSUER"] and decoded.claims["sub"] == "amy", decoded.claims
    print("verifies with the published keys")

client.revoke_token(base + "/oauth/revoke", token=second["access_token"], token_type_hint="access_token").raise_for_status()
assert not active(client, second["access_token"])["active"], "a revoked access token is active"
client.revoke_token(base + "/oauth/revoke", token=second["refresh_token"], token_type_hint="refresh_token").raise_for_status()
assert not active(client, second["refresh_token"])["active"], "a revoked refresh token is active"
try:
    client.refresh_token(token_url, refresh_token=second["refresh_token"])
    raise SystemExit("a revoked refresh token was used")
except OAuthError as error:
    assert error.error == "invalid_grant", error
print("revokes")

try:
    OAuth2Session(client_id, "00000000-0000-4000-8000-000000000000").fetch_token(token_url, grant_type="client_credentials")
    raise SystemExit("a wrong secret was taken")
except OAuthError as error:
    assert error.error == "invalid_client", error
print("is told of a wrong secret")
