from django.apps import AppConfig


class GatewayConfig(AppConfig):
    name = "gateway"

    def ready(self) -> None:
        # Models are loaded only now, so what is built on them can be imported only now.
        from gateway import first_call, system_checks  # noqa: PLC0415
        from tenants import examples  # noqa: PLC0415

        system_checks.install()
        examples.suggest_models_with(first_call.suggest_model)
