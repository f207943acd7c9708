"""The service: plans, model information, engines, admission, lifecycle and settings. Knows no protocol."""
