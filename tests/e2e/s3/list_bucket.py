"""Prints the keys of a bucket."""

import sys

import boto3

client = boto3.client(
    "s3",
    endpoint_url="http://127.0.0.1:5000",
    region_name="us-east-1",
    aws_access_key_id="testing",
    aws_secret_access_key="testing",
)
for entry in client.list_objects_v2(Bucket=sys.argv[1]).get("Contents", []):
    print(entry["Key"])
