"""All of Azure's paths but the undated ones, which are OpenAI's."""
from feinschliff.api.azure import files, fine_tuning, inference, management, model_list, models

AZURE = (inference.router, files.router, fine_tuning.router, models.router, management.router, model_list.router)
