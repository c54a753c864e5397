"""One machine: its users, the files of a deployment, the processes and what is to be said about them."""
