"""Views to render: what they need and become, and how surfaces continue in new ones."""
