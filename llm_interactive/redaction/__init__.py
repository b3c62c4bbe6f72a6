"""No secret leaves (SPEC 9): what secrets look like, how they are taken out of a request, how they come back."""
