"""What the admin API was asked to do, case by case and by name. Each is told in more detail elsewhere in this folder."""

from typing import Any
from uuid import uuid4

from tests.cast import PASSWORD, Api
from tests.gateway.door import Door

CONFIG = {"provider": "openai", "api_key": "sk-acceptance-0123456789"}


class TestSignIn:
    def log_in(self, username: str, password: str) -> Any:
        return Api().post("auth/login", {"username": username, "password": password})

    def test_good_login(self, operator):
        answer = self.log_in(operator.username, PASSWORD)
        assert answer.status_code == 200
        assert {"token", "expires_at", "must_change_password"} <= answer.json().keys()

    def test_wrong_password(self, operator):
        answer = self.log_in(operator.username, "not the password")
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_credentials"

    def test_unknown_user(self, operator):
        assert self.log_in("nobody", PASSWORD).status_code == 401

    def test_no_token(self, db):
        answer = Api().get("auth/me")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"

    def test_bad_token(self, db):
        assert Api("not.a.token").get("auth/me").status_code == 401

    def test_good_token(self, operator):
        token = self.log_in(operator.username, PASSWORD).json()["token"]
        answer = Api(token).get("auth/me")
        assert answer.status_code == 200
        assert answer.json()["username"] == operator.username


class TestTenants:
    def test_create_201(self, api):
        answer = api.post("tenants", {"name": "Northwind"})
        assert answer.status_code == 201
        assert (answer.json()["name"], answer.json()["slug"]) == ("Northwind", "northwind")

    def test_missing_name_400(self, api):
        answer = api.post("tenants", {"slug": "northwind"})
        assert answer.status_code == 400
        assert "name" in answer.json()["error"]["fields"]

    def test_list(self, api, tenant, outsider):
        answer = api.get("tenants").json()
        assert {tenant.slug, outsider.slug} <= {row["slug"] for row in answer["data"]}
        assert answer["total"] == len(answer["data"])

    def test_list_by_status(self, api, tenant, outsider):
        assert api.patch(f"tenants/{outsider.id}", {"status": "inactive"}).status_code == 200
        rows = api.get("tenants?status=inactive").json()["data"]
        assert [row["slug"] for row in rows] == [outsider.slug]

    def test_detail_with_provider_summary_and_key_count(self, api, tenant, key):
        assert api.put(f"tenants/{tenant.id}/provider-config", CONFIG).status_code == 200
        detail = api.get(f"tenants/{tenant.id}").json()
        assert detail["api_key_count"] == 1
        assert detail["provider_config"]["provider"] == "openai"
        assert detail["provider_config"]["has_api_key"] is True

    def test_unknown_404(self, api):
        answer = api.get(f"tenants/{uuid4()}")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"

    def test_rename(self, api, tenant):
        assert api.patch(f"tenants/{tenant.id}", {"name": "Renamed"}).status_code == 200
        assert api.get(f"tenants/{tenant.id}").json()["name"] == "Renamed"

    def test_set_inactive(self, api, tenant):
        answer = api.patch(f"tenants/{tenant.id}", {"status": "inactive"})
        assert (answer.status_code, answer.json()["status"]) == (200, "inactive")

    def test_delete_without_confirm_400(self, api, tenant):
        assert api.delete(f"tenants/{tenant.id}").status_code == 400
        assert api.get(f"tenants/{tenant.id}").status_code == 200

    def test_delete_with_confirm_204(self, api, tenant):
        assert api.delete(f"tenants/{tenant.id}?confirm=true").status_code == 204
        assert api.get(f"tenants/{tenant.id}").status_code == 404


class TestKeys:
    def issue(self, api, tenant) -> dict[str, Any]:
        answer = api.post(f"tenants/{tenant.id}/api-keys", {"name": "first"})
        assert answer.status_code == 201
        return dict(answer.json())

    def test_create_shows_the_raw_key_once(self, api, tenant):
        issued = self.issue(api, tenant)
        assert issued["key"].startswith("gwk_")
        assert issued["key"] not in api.get(f"keys/{issued['id']}").content.decode()

    def test_unknown_tenant_404(self, api):
        assert api.post(f"tenants/{uuid4()}/api-keys", {"name": "first"}).status_code == 404

    def test_list_without_hash(self, api, tenant):
        issued = self.issue(api, tenant)
        (row,) = api.get(f"tenants/{tenant.id}/api-keys").json()["data"]
        assert row["id"] == issued["id"]
        assert not {"key", "hash", "key_hash", "fingerprint", "secret"} & row.keys()

    def test_revoke_204_then_status_revoked(self, api, tenant):
        issued = self.issue(api, tenant)
        assert api.delete(f"tenants/{tenant.id}/api-keys/{issued['id']}").status_code == 204
        assert api.get(f"keys/{issued['id']}").json()["status"] == "revoked"

    def test_permanent_204_then_gone(self, api, tenant):
        path = f"tenants/{tenant.id}/api-keys/{self.issue(api, tenant)['id']}"
        assert api.delete(f"{path}?permanent=true").status_code == 204
        assert api.get(f"tenants/{tenant.id}/api-keys").json()["data"] == []


class TestProviderConfig:
    def test_set_gives_has_api_key_true(self, api, tenant):
        answer = api.put(f"tenants/{tenant.id}/provider-config", CONFIG)
        assert (answer.status_code, answer.json()["has_api_key"]) == (200, True)

    def test_raw_key_not_in_the_answer(self, api, tenant):
        path = f"tenants/{tenant.id}/provider-config"
        for answer in (api.put(path, CONFIG), api.get(path), api.get(f"tenants/{tenant.id}")):
            assert CONFIG["api_key"] not in answer.content.decode()

    def test_remove_204(self, api, tenant):
        api.put(f"tenants/{tenant.id}/provider-config", CONFIG)
        assert api.delete(f"tenants/{tenant.id}/provider-config").status_code == 204

    def test_detail_then_null(self, api, tenant):
        api.put(f"tenants/{tenant.id}/provider-config", CONFIG)
        api.delete(f"tenants/{tenant.id}/provider-config")
        assert api.get(f"tenants/{tenant.id}").json()["provider_config"] is None


class TestRegression:
    """At the door of a real server, where callers come in."""

    def test_active_key_of_active_tenant_passes(self, door: Door):
        assert door.chat("oracle/status:200").status_code == 200

    def test_inactive_tenant_401(self, door: Door):
        tenant = door.new_tenant()
        key = door.new_key(tenant)
        assert door.chat("oracle/status:200", key=key).status_code == 200
        door.change("PATCH", f"tenants/{tenant.id}", {"status": "inactive"})
        assert door.chat("oracle/status:200", key=key).status_code == 401

    def test_revoked_key_401(self, door: Door):
        key = door.new_key()
        assert door.chat("oracle/status:200", key=key).status_code == 200
        door.change("POST", f"keys/{key.id}/revoke", {})
        assert door.chat("oracle/status:200", key=key).status_code == 401
