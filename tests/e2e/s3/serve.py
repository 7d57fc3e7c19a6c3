"""Serves S3 on port 5000, with the bucket `uploads`."""

import time

import boto3
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="0.0.0.0", port=5000)
server.start()
boto3.client(
    "s3",
    endpoint_url="http://127.0.0.1:5000",
    region_name="us-east-1",
    aws_access_key_id="testing",
    aws_secret_access_key="testing",
).create_bucket(Bucket="uploads")
while True:
    time.sleep(3600)
