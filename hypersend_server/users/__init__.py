"""The room of people: profiles, blocks, what administrators may do."""
