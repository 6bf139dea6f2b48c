"""Model families, one module each; its attribute `PLUGIN` is a subclass of `dlgsum.models.family.ModelFamily`."""
