"""Updates of the app: the releases that an operator publishes, and who is offered which."""
