use std::time::Duration;

use super::*;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn claims(members: &str) -> Claims {
    let body = format!("{{\"active\":true,{members}}}");
    let claims_parser = ClaimsParser::default();
    claims_parser
        .parse(body.as_bytes())
        .unwrap()
        .expect("active")
}

fn verify(rules: &Rules, members: &str) -> Result<(), ClaimViolation> {
    rules.check(&claims(members), || at(1_000))
}

#[test]
fn enforces_exp_nbf_and_iat() {
    let rules = Rules::default();
    assert_eq!(verify(&rules, r#""sub":"s","exp":1001"#), Ok(()));
    assert_eq!(verify(&rules, r#""sub":"s","exp":1000"#), Err("expired"));
    assert_eq!(verify(&rules, r#""sub":"s","nbf":1005"#), Ok(()));
    assert_eq!(
        verify(&rules, r#""sub":"s","nbf":1006"#),
        Err("not_yet_valid")
    );
    assert_eq!(verify(&rules, r#""sub":"s","iat":1005"#), Ok(()));
    assert_eq!(
        verify(&rules, r#""sub":"s","iat":1006"#),
        Err("issued_in_the_future")
    );
}

#[test]
fn accepts_only_bearer_tokens() {
    let rules = Rules::default();
    for valid in ["Bearer", "bearer", "BEARER", "access_token", "Access_Token"] {
        let members = format!(r#""sub":"s","token_type":"{valid}""#);
        assert_eq!(verify(&rules, &members), Ok(()), "{valid}");
    }
    for invalid in ["", "DPoP", "refresh_token", "id_token", "mac", "bearer "] {
        let members = format!(r#""sub":"s","token_type":"{invalid}""#);
        assert_eq!(verify(&rules, &members), Err("token_type"), "{invalid}");
    }
    let bound = r#""sub":"s","token_type":"Bearer","cnf":{"x5t#S256":"x"}"#;
    assert_eq!(verify(&rules, bound), Err("bound_to_a_key"));
}

#[test]
fn requires_the_configured_audience() {
    let rules = Rules {
        audience: Some("api".into()),
        ..Rules::default()
    };
    for valid in [r#""api""#, r#"["other","api"]"#] {
        assert_eq!(
            verify(&rules, &format!(r#""sub":"s","aud":{valid}"#)),
            Ok(())
        );
    }
    for invalid in [r#""apis""#, r#"["API"]"#, "[]", "null", r#""other api""#] {
        let members = format!(r#""sub":"s","aud":{invalid}"#);
        assert_eq!(verify(&rules, &members), Err("audience"), "{invalid}");
    }
    assert_eq!(verify(&rules, r#""sub":"s""#), Err("audience"));
    assert_eq!(
        verify(&Rules::default(), r#""sub":"s","aud":"any""#),
        Ok(())
    );
}

#[test]
fn checks_configured_and_required_issuers() {
    let mut rules = Rules {
        issuer: Some("https://as".into()),
        ..Rules::default()
    };
    assert_eq!(verify(&rules, r#""sub":"s","iss":"https://as""#), Ok(()));
    assert_eq!(verify(&rules, r#""sub":"s""#), Ok(()));
    for invalid in ["https://as/", "https://AS", "x", ""] {
        let members = format!(r#""sub":"s","iss":"{invalid}""#);
        assert_eq!(verify(&rules, &members), Err("issuer"), "{invalid}");
    }
    rules.requires_issuer = true;
    assert_eq!(verify(&rules, r#""sub":"s""#), Err("issuer"));
    rules.issuer = None;
    assert_eq!(verify(&rules, r#""sub":"s","iss":"any""#), Ok(()));
    for invalid in [r#""sub":"s""#, r#""sub":"s","iss":"""#] {
        assert_eq!(verify(&rules, invalid), Err("issuer"), "{invalid}");
    }
}

#[test]
fn requires_a_subject_unless_allowed() {
    let mut rules = Rules::default();
    assert_eq!(verify(&rules, r#""scope":"a""#), Err("no_subject"));
    assert_eq!(
        verify(&rules, r#""sub":"","client_id":"""#),
        Err("no_subject")
    );
    assert_eq!(verify(&rules, r#""client_id":"c""#), Ok(()));
    rules.allows_missing_subject = true;
    assert_eq!(verify(&rules, r#""scope":"a""#), Ok(()));
}

#[test]
fn builds_the_record_from_the_claims() {
    let digest = TokenDigest::of("t");
    let members = r#""sub":"alice","client_id":"c","scope":"a:b c","exp":2000,"nbf":10,"iat":6"#;
    let record = Rules::default().record(&claims(members), digest);
    assert_eq!(record.digest(), &digest);
    assert_eq!((record.name(), record.subject()), ("c", Some("alice")));
    assert_eq!(record.scopes().iter().collect::<Vec<_>>(), ["a:b", "c"]);
    assert!(record.roles().is_empty());
    assert_eq!(record.expires_at(), Some(at(2000)));
    assert_eq!(record.not_before(), Some(at(5)));
    assert_eq!(record.created_at(), Some(at(6)));
}

#[test]
fn reads_the_owner() {
    let rules = Rules::default();
    for (member, owner) in [
        (r#","owner":"user:1""#, Some("user:1")),
        (r#","owner":null"#, None),
        ("", None),
    ] {
        let claims = claims(&format!(r#""sub":"s"{member}"#));
        let record = rules.record(&claims, TokenDigest::of("t"));
        assert_eq!(record.owner(), owner, "{member}");
    }
}

#[test]
fn keeps_our_token_id_and_omits_it_as_subject() {
    let own = r#""jti":"7Hq2mX9bTe","client_id":"7Hq2mX9bTe","name":"ci""#;
    let record = Rules::default().record(&claims(own), TokenDigest::of("t"));
    assert_eq!(record.id().to_string(), "7Hq2mX9bTe");
    assert_eq!((record.name(), record.subject()), ("ci", None));
}

#[test]
fn derives_the_id_from_issuer_and_jti_or_the_digest() {
    let id = |members: &str, token| {
        let record = Rules::default().record(&claims(members), TokenDigest::of(token));
        record.id()
    };
    let named = r#""sub":"s","iss":"i","jti":"a long name""#;
    assert_eq!(id(named, "t"), id(named, "u"));
    assert_ne!(
        id(named, "t"),
        id(r#""sub":"s","iss":"j","jti":"a long name""#, "t")
    );
    assert_eq!(id(r#""sub":"s""#, "t"), id(r#""sub":"r""#, "t"));
    assert_ne!(id(r#""sub":"s""#, "t"), id(r#""sub":"s""#, "u"));
}

#[test]
fn scope_mapping_renames_and_drops_scopes() {
    let rules = Rules {
        scope_mapping: Some(Arc::new(|scope| scope.strip_prefix("api/").map(Into::into))),
        ..Rules::default()
    };
    let record = rules.record(
        &claims(r#""sub":"s","scope":"api/read * openid""#),
        TokenDigest::of("t"),
    );
    assert_eq!(record.scopes().iter().collect::<Vec<_>>(), ["read"]);
}
