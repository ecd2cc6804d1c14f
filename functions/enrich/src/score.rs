//! The score of an alert and the level it ends at.
//!
//! score = base x event-type multiplier x intelligence factor, held within 0 to 1. The base is the rule's
//! level or the model's calibrated score; the multiplier says how grave the kind of action is and only orders
//! alerts within a level; the intelligence factor may lift an alert across a level. In: what an alert rests
//! on ([`ScoreBasis`]). Out: score and level.

use sentinel_model::{
    Level, Member, RuleRef,
    alert::{ActionClass, Reputation, ScoreBasis},
};

/// Score from which an alert is critical.
pub const CRITICAL: f64 = 0.8;
/// Score from which an alert is high.
pub const HIGH: f64 = 0.6;
/// Score from which an alert is medium; below it is low.
pub const MEDIUM: f64 = 0.4;
/// Score of what rests only on an informational rule: context, never notified.
pub const INFORMATIONAL: f64 = 0.1;
/// Intelligence factor of an indicator that is suspicious.
pub const SUSPICIOUS: f64 = 1.25;
/// Intelligence factor of an indicator that is known bad.
pub const KNOWN_BAD: f64 = 1.5;
/// Prefix of the rule id of a model's alert.
pub const MODEL_PREFIX: &str = "model:";

/// Base score of a rule's level.
pub const fn base_of(level: Level) -> f64 {
    match level {
        Level::Informational => INFORMATIONAL,
        Level::Low => 0.2,
        Level::Medium => 0.5,
        Level::High => 0.7,
        Level::Critical => 0.9,
    }
}

/// The event-type multiplier: 0.9 to 1.14, so that by itself it never moves an alert across a level
/// (0.9 x 0.5 >= 0.4 and 1.14 x 0.5 < 0.6, and so on for each base).
///
/// | kind of action | multiplier |
/// | --- | --- |
/// | refused or failed read | 0.90 |
/// | refused or failed change | 0.93 |
/// | read | 0.96 |
/// | sign-in, session taken on | 1.00 |
/// | resource change | 1.02 |
/// | credential or privilege change | 1.10 |
/// | defence evasion (logging, detection) | 1.12 |
/// | data destroyed, locked away or given out | 1.14 |
pub const fn multiplier_of(class: ActionClass) -> f64 {
    match class {
        ActionClass::FailedRead => 0.90,
        ActionClass::FailedChange => 0.93,
        ActionClass::Read => 0.96,
        ActionClass::SignIn => 1.0,
        ActionClass::ResourceChange => 1.02,
        ActionClass::CredentialChange => 1.10,
        ActionClass::DefenceEvasion => 1.12,
        ActionClass::DataLoss => 1.14,
    }
}

/// The intelligence factor of the worst reputation among an alert's indicators.
pub const fn factor_of(worst: Option<Reputation>) -> f64 {
    match worst {
        None => 1.0,
        Some(Reputation::Suspicious) => SUSPICIOUS,
        Some(Reputation::KnownBad) => KNOWN_BAD,
    }
}

/// The level of a score.
pub fn level_of(score: f64) -> Level {
    if score >= CRITICAL {
        Level::Critical
    } else if score >= HIGH {
        Level::High
    } else if score >= MEDIUM {
        Level::Medium
    } else {
        Level::Low
    }
}

/// Score and level of an alert of `rule` that rests on `basis`.
pub fn score(rule: &RuleRef, basis: &ScoreBasis) -> (f64, Level) {
    let is_model = rule.id.starts_with(MODEL_PREFIX);
    if rule.level == Level::Informational && !(is_model && basis.model_score.is_some()) {
        return (INFORMATIONAL, Level::Informational);
    }
    let base = basis.model_score.filter(|_| is_model).unwrap_or_else(|| base_of(rule.level));
    let multiplier = match &basis.gravest {
        Some((class, _)) if !is_model => multiplier_of(*class),
        _ => 1.0,
    };
    let worst = basis.findings.iter().map(|f| f.reputation).max();
    // Rounded to a millionth so that 0.7 x 1.14 reads 0.798; the level is that of the score shown.
    let product = (base * multiplier * factor_of(worst)).clamp(0.0, 1.0);
    let shown = (product * 1e6).round() / 1e6;
    (shown, level_of(shown))
}

/// The kind of action of one event.
pub fn classify(member: &Member) -> ActionClass {
    classify_action(&member.service, &member.action, member.read_only, member.success)
}

/// The kind of an action: service host name, operation, whether it only read (where the record says) and whether
/// it succeeded.
pub fn classify_action(service: &str, action: &str, read_only: Option<bool>, success: bool) -> ActionClass {
    let reads = read_only.unwrap_or_else(|| is_read_name(action));
    match (success, reads) {
        (false, true) => ActionClass::FailedRead,
        (false, false) => ActionClass::FailedChange,
        (true, _) => class_of_name(service.split('.').next().unwrap_or_default(), action).unwrap_or(if reads {
            ActionClass::Read
        } else {
            ActionClass::ResourceChange
        }),
    }
}

fn is_read_name(action: &str) -> bool {
    ["Get", "List", "Describe", "Head", "Lookup", "Search", "Select", "Query", "Scan", "Filter"]
        .iter()
        .any(|p| action.starts_with(p))
}

/// A row of the table by which operations are classed: service, beginning of the operation's name, kind.
/// The first row that fits counts; an empty service fits every service.
type Row = (&'static str, &'static str, ActionClass);

/// Operations that are graver than "a change" or "a read" (AWS Service Authorization Reference: their access
/// levels and what they act on). Names are beginnings, so versioned operations
/// (`DeleteFunction20150331`) fit too.
const CLASSES: &[Row] = {
    use ActionClass::{CredentialChange, DataLoss, DefenceEvasion, SignIn};
    &[
        // What hides traces: trails, detectors, recorders, flow logs, log groups, alarms.
        ("cloudtrail", "StopLogging", DefenceEvasion),
        ("cloudtrail", "Delete", DefenceEvasion),
        ("cloudtrail", "Update", DefenceEvasion),
        ("cloudtrail", "PutEventSelectors", DefenceEvasion),
        ("cloudtrail", "PutInsightSelectors", DefenceEvasion),
        ("cloudtrail", "StopEventDataStoreIngestion", DefenceEvasion),
        ("cloudtrail", "DeregisterOrganizationDelegatedAdmin", DefenceEvasion),
        ("guardduty", "Delete", DefenceEvasion),
        ("guardduty", "Disable", DefenceEvasion),
        ("guardduty", "Disassociate", DefenceEvasion),
        ("guardduty", "Stop", DefenceEvasion),
        ("guardduty", "Update", DefenceEvasion),
        ("guardduty", "CreateIPSet", DefenceEvasion),
        ("guardduty", "CreateFilter", DefenceEvasion),
        ("guardduty", "ArchiveFindings", DefenceEvasion),
        ("securityhub", "Disable", DefenceEvasion),
        ("securityhub", "Delete", DefenceEvasion),
        ("securityhub", "BatchDisable", DefenceEvasion),
        ("securityhub", "UpdateFindings", DefenceEvasion),
        ("securityhub", "BatchUpdateFindings", DefenceEvasion),
        ("config", "StopConfigurationRecorder", DefenceEvasion),
        ("config", "Delete", DefenceEvasion),
        ("access-analyzer", "Delete", DefenceEvasion),
        ("macie2", "Disable", DefenceEvasion),
        ("inspector2", "Disable", DefenceEvasion),
        ("detective", "Delete", DefenceEvasion),
        ("ec2", "DeleteFlowLogs", DefenceEvasion),
        ("logs", "Delete", DefenceEvasion),
        ("logs", "PutRetentionPolicy", DefenceEvasion),
        ("monitoring", "DeleteAlarms", DefenceEvasion),
        ("monitoring", "DisableAlarmActions", DefenceEvasion),
        ("events", "DeleteRule", DefenceEvasion),
        ("events", "DisableRule", DefenceEvasion),
        ("events", "RemoveTargets", DefenceEvasion),
        ("wafv2", "Delete", DefenceEvasion),
        ("wafv2", "DisassociateWebACL", DefenceEvasion),
        ("waf", "Delete", DefenceEvasion),
        ("route53resolver", "DeleteResolverQueryLogConfig", DefenceEvasion),
        ("s3", "PutBucketLogging", DefenceEvasion),
        ("s3", "PutBucketLifecycle", DefenceEvasion),
        ("organizations", "LeaveOrganization", DefenceEvasion),
        ("rds", "DeleteDBSecurityGroup", DefenceEvasion),
        // Data destroyed, locked away, or given out of the account.
        ("s3", "DeleteBucketPolicy", CredentialChange),
        ("s3", "DeleteBucket", DataLoss),
        ("s3", "DeleteObject", DataLoss),
        ("s3", "PutBucketPolicy", DataLoss),
        ("s3", "PutBucketAcl", DataLoss),
        ("s3", "PutObjectAcl", DataLoss),
        ("s3", "DeletePublicAccessBlock", DataLoss),
        ("s3", "PutBucketPublicAccessBlock", DataLoss),
        ("s3", "PutAccountPublicAccessBlock", DataLoss),
        ("s3", "PutBucketReplication", DataLoss),
        ("s3", "PutBucketVersioning", DataLoss),
        ("ec2", "ModifySnapshotAttribute", DataLoss),
        ("ec2", "ModifyImageAttribute", DataLoss),
        ("ec2", "SharedSnapshot", DataLoss),
        ("ec2", "DeleteSnapshot", DataLoss),
        ("ec2", "DeleteVolume", DataLoss),
        ("ec2", "TerminateInstances", DataLoss),
        ("ec2", "CreateStoreImageTask", DataLoss),
        ("ec2", "CreateInstanceExportTask", DataLoss),
        ("ec2", "DisableEbsEncryptionByDefault", DataLoss),
        ("ebs", "GetSnapshotBlock", DataLoss),
        ("rds", "ModifyDBSnapshotAttribute", DataLoss),
        ("rds", "ModifyDBClusterSnapshotAttribute", DataLoss),
        ("rds", "DeleteDB", DataLoss),
        ("rds", "DeleteGlobalCluster", DataLoss),
        ("rds", "StartExportTask", DataLoss),
        ("dynamodb", "DeleteTable", DataLoss),
        ("dynamodb", "DeleteBackup", DataLoss),
        ("dynamodb", "ExportTableToPointInTime", DataLoss),
        ("backup", "Delete", DataLoss),
        ("kms", "ScheduleKeyDeletion", DataLoss),
        ("kms", "DisableKey", DataLoss),
        ("kms", "DeleteImportedKeyMaterial", DataLoss),
        ("secretsmanager", "DeleteSecret", DataLoss),
        ("elasticfilesystem", "DeleteFileSystem", DataLoss),
        ("elasticfilesystem", "DeleteMountTarget", DataLoss),
        ("cloudformation", "DeleteStack", DataLoss),
        ("organizations", "CloseAccount", DataLoss),
        ("route53", "DeleteHostedZone", DataLoss),
        ("ecr", "SetRepositoryPolicy", DataLoss),
        ("ecr", "DeleteRepository", DataLoss),
        // Sessions.
        ("signin", "ConsoleLogin", SignIn),
        ("sso", "Authenticate", SignIn),
        ("sts", "AssumeRole", SignIn),
        ("sts", "Get", SignIn),
        // Credentials and privileges.
        ("sts", "GetFederationToken", CredentialChange),
        ("iam", "Get", ActionClass::Read),
        ("iam", "List", ActionClass::Read),
        ("iam", "Simulate", ActionClass::Read),
        ("iam", "Generate", ActionClass::Read),
        ("iam", "Tag", ActionClass::ResourceChange),
        ("iam", "Untag", ActionClass::ResourceChange),
        ("iam", "", CredentialChange),
        ("sso-directory", "Create", CredentialChange),
        ("sso", "CreateAccountAssignment", CredentialChange),
        ("sso", "CreatePermissionSet", CredentialChange),
        ("sso", "PutInlinePolicyToPermissionSet", CredentialChange),
        ("sso", "AttachManagedPolicyToPermissionSet", CredentialChange),
        ("identitystore", "Create", CredentialChange),
        ("rolesanywhere", "Create", CredentialChange),
        ("signin", "PasswordUpdated", CredentialChange),
        ("signin", "PasswordRecoveryCompleted", CredentialChange),
        ("secretsmanager", "GetSecretValue", CredentialChange),
        ("secretsmanager", "BatchGetSecretValue", CredentialChange),
        ("secretsmanager", "PutResourcePolicy", CredentialChange),
        ("ec2", "GetPasswordData", CredentialChange),
        ("ec2", "AssociateIamInstanceProfile", CredentialChange),
        ("ec2", "ReplaceIamInstanceProfileAssociation", CredentialChange),
        ("ec2", "ImportKeyPair", CredentialChange),
        ("ec2", "CreateKeyPair", CredentialChange),
        ("ec2-instance-connect", "Send", CredentialChange),
        ("lambda", "AddPermission", CredentialChange),
        ("lambda", "AddLayerVersionPermission", CredentialChange),
        ("kms", "PutKeyPolicy", CredentialChange),
        ("kms", "CreateGrant", CredentialChange),
        ("eks", "CreateAccessEntry", CredentialChange),
        ("eks", "AssociateAccessPolicy", CredentialChange),
        ("organizations", "AttachPolicy", CredentialChange),
        ("organizations", "DetachPolicy", CredentialChange),
        ("cognito-idp", "AdminCreateUser", CredentialChange),
    ]
};

fn class_of_name(service: &str, action: &str) -> Option<ActionClass> {
    let fits = |row: &&Row| row.0 == service && action.starts_with(row.1);
    // The longest beginning that fits, so that an exact operation outweighs its family.
    CLASSES.iter().filter(fits).max_by_key(|row| row.1.len()).map(|row| row.2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use proptest::prelude::*;
    use sentinel_model::alert::IntelFinding;

    const CLASSES_ALL: [ActionClass; 8] = [
        ActionClass::FailedRead,
        ActionClass::FailedChange,
        ActionClass::Read,
        ActionClass::SignIn,
        ActionClass::ResourceChange,
        ActionClass::CredentialChange,
        ActionClass::DefenceEvasion,
        ActionClass::DataLoss,
    ];

    fn rule(level: Level) -> RuleRef {
        RuleRef { id: "r".into(), title: "R".into(), level, author: None }
    }

    fn finding(reputation: Reputation) -> IntelFinding {
        IntelFinding { reputation, kind: "address".into(), indicator: "198.51.100.1".into(), source: "list".into() }
    }

    fn class_of(service: &str, action: &str, success: bool, read_only: bool) -> ActionClass {
        let mut member = testing::member("e1", "2024-01-01T00:00:00Z");
        member.service = service.into();
        member.action = action.into();
        member.success = success;
        member.read_only = Some(read_only);
        classify(&member)
    }

    #[test]
    fn the_multiplier_by_itself_never_moves_a_level() {
        for level in Level::ALL {
            for class in CLASSES_ALL {
                assert!((0.9..=1.14).contains(&multiplier_of(class)));
                let basis = ScoreBasis { gravest: Some((class, "X".into())), ..ScoreBasis::default() };
                assert_eq!(score(&rule(level), &basis).1, level, "{level} {class:?}");
            }
        }
    }

    #[test]
    fn the_gravest_class_has_the_greatest_multiplier() {
        for pair in CLASSES_ALL.windows(2) {
            assert!(pair[0] < pair[1] && multiplier_of(pair[0]) < multiplier_of(pair[1]));
        }
    }

    #[test]
    fn intelligence_may_move_a_level() {
        let with = |r| ScoreBasis { findings: vec![finding(r)], ..ScoreBasis::default() };
        assert_eq!(score(&rule(Level::Medium), &with(Reputation::Suspicious)), (0.625, Level::High));
        assert_eq!(score(&rule(Level::High), &with(Reputation::Suspicious)), (0.875, Level::Critical));
        assert_eq!(score(&rule(Level::Low), &with(Reputation::KnownBad)), (0.3, Level::Low));
        assert_eq!(score(&rule(Level::Critical), &with(Reputation::KnownBad)), (1.0, Level::Critical));
    }

    #[test]
    fn informational_stays_informational() {
        let basis = ScoreBasis {
            gravest: Some((ActionClass::DataLoss, "DeleteBucket".into())),
            findings: vec![finding(Reputation::KnownBad)],
            ..ScoreBasis::default()
        };
        assert_eq!(score(&rule(Level::Informational), &basis), (0.1, Level::Informational));
    }

    #[test]
    fn a_model_scores_by_its_own_score_alone() {
        let mut model = rule(Level::Medium);
        model.id = "model:isolation_forest".into();
        let basis = ScoreBasis {
            model_score: Some(0.71),
            gravest: Some((ActionClass::DataLoss, "DeleteBucket".into())),
            ..ScoreBasis::default()
        };
        assert_eq!(score(&model, &basis), (0.71, Level::High));
    }

    #[test]
    fn kinds_of_action() {
        use ActionClass::*;
        for (service, action, success, read_only, want) in [
            ("cloudtrail.amazonaws.com", "StopLogging", true, false, DefenceEvasion),
            ("cloudtrail.amazonaws.com", "StopLogging", false, false, FailedChange),
            ("iam.amazonaws.com", "CreateAccessKey", true, false, CredentialChange),
            ("iam.amazonaws.com", "ListUsers", true, true, Read),
            ("iam.amazonaws.com", "ListUsers", false, true, FailedRead),
            ("secretsmanager.amazonaws.com", "GetSecretValue", true, true, CredentialChange),
            ("s3.amazonaws.com", "DeleteBucketPolicy", true, false, CredentialChange),
            ("s3.amazonaws.com", "DeleteObjects", true, false, DataLoss),
            ("sts.amazonaws.com", "AssumeRoleWithWebIdentity", true, true, SignIn),
            ("ec2.amazonaws.com", "RunInstances", true, false, ResourceChange),
            ("ec2.amazonaws.com", "DescribeInstances", true, true, Read),
        ] {
            assert_eq!(class_of(service, action, success, read_only), want, "{action}");
        }
    }

    proptest! {
        #[test]
        fn scores_stay_in_bounds_and_agree_with_levels(
            model in 0.0..2.0_f64,
            level in 0..5_usize,
            bad in proptest::option::of(prop_oneof![Just(Reputation::Suspicious), Just(Reputation::KnownBad)]),
            is_model: bool,
        ) {
            let mut rule = rule(Level::ALL[level]);
            if is_model {
                rule.id = "model:x".into();
            }
            let basis = ScoreBasis {
                model_score: is_model.then_some(model),
                findings: bad.map(finding).into_iter().collect(),
                ..ScoreBasis::default()
            };
            let (score, level) = score(&rule, &basis);
            prop_assert!((0.0..=1.0).contains(&score));
            if level != Level::Informational {
                prop_assert_eq!(level, level_of(score));
            }
        }
    }
}
