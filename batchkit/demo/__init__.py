"""The whole job on a generated catalog, from the contract to a correction a week later, in one command."""
