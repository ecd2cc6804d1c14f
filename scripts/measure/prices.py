"""List prices, US East (N. Virginia), in USD, as AWS's price pages of 2025 had them.

They are not read from AWS: check them before quoting a figure. Pages: aws.amazon.com/{lambda,sqs,dynamodb,s3,
eventbridge,cloudwatch,secrets-manager,api-gateway}/pricing and, to compare with, aws.amazon.com/guardduty/pricing.
"""

AS_OF = "2025"

LAMBDA_REQUEST = 0.20 / 1e6
LAMBDA_GB_SECOND = {"arm64": 0.0000133334, "x86_64": 0.0000166667}
SQS_REQUEST = 0.40 / 1e6
"""Standard queue: a send, receive or delete of up to 10 messages, each 64 KB of it."""
DYNAMODB_WRITE = 0.625 / 1e6
"""On demand: 1 KB; twice that in a transaction."""
DYNAMODB_READ = 0.125 / 1e6
"""On demand, consistent: 4 KB."""
S3_PUT = 0.005 / 1e3
"""PUT and LIST."""
S3_GET = 0.0004 / 1e3
S3_GB_MONTH = 0.023
LOG_GB = 0.50
METRIC_MONTH = 0.30
ALARM_MONTH = 0.10
SECRET_MONTH = 0.40
GUARDDUTY_EVENT = 4.00 / 1e6
"""GuardDuty, CloudTrail management events, first tier."""
EVENTBRIDGE_FORWARDED = 1.00 / 1e6
"""Events of AWS services are free on the account's own bus; one sent to another Region or account is not."""
