"""Asks a server over HTTPS: tls.py URL CERTIFICATE [OWN_CERTIFICATE OWN_KEY]; prints the answer, or why there is none."""

import ssl
import sys
import urllib.request

url, certificate, *own = sys.argv[1:]
context = ssl.create_default_context(cafile=certificate)
if own:
    context.load_cert_chain(*own)
try:
    with urllib.request.urlopen(url, context=context, timeout=10) as answer:
        print(answer.status, answer.read().decode().strip())
except (OSError, ssl.SSLError) as error:
    print("refused:", error)
