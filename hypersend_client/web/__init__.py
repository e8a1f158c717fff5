"""The web app: its static files, the process that runs its screens, and the upload page.

The server finds this folder without importing anything from it; see `hypersend_server.web_client`.
"""
