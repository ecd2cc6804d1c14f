//! Logging in, lockout, sessions and the tokens that carry them.

use axum::{
    body::Body,
    http::{Method, header},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use sentinel_dashboard::auth::{
    accounts::{self, Initial, InitialPassword},
    token,
};
use sentinel_model::time;
use sentinel_state::users::Role;
use serde_json::{Value, json};

use crate::world::{PASSWORD, World, request};

#[tokio::test]
async fn the_first_administrator_must_change_the_password_before_anything_else() {
    let world = World::new().await;
    let now = world.app.clock.now();
    let first = accounts::first_administrator(&world.users, now).await.unwrap().unwrap();
    assert_eq!(accounts::first_administrator(&world.users, now).await.unwrap(), None, "told once");
    let stored = world.users.get("admin").await.unwrap().unwrap().value;
    assert!(!stored.password_hash.contains(&first) && stored.password_hash.starts_with("$argon2id$"));

    let session = world.log_in("admin", &first).await.is(200).json();
    assert_eq!(session["user"], json!({ "username": "admin", "role": "admin", "must_change_password": true }));
    assert_eq!(session["expires_at"], "2026-03-01T20:00:00Z");
    let old = session["token"].as_str().unwrap();
    let refused = world.get("/api/v1/alerts", old).await.is(403);
    assert_eq!(refused.problem(), "password-change-required");
    assert_eq!(world.get("/api/v1/auth/me", old).await.is(200).json()["must_change_password"], true);

    let change = |current: &str, new: &str| json!({ "current_password": current, "new_password": new });
    world.post("/api/v1/auth/password", old, change(&first, &first)).await.is(400);
    world.post("/api/v1/auth/password", old, change(&first, "too short")).await.is(400);
    world.post("/api/v1/auth/password", old, change("not the one it is", PASSWORD)).await.is(401);
    let session = world.post("/api/v1/auth/password", old, change(&first, PASSWORD)).await.is(200).json();
    assert_eq!(session["user"]["must_change_password"], false);
    world.get("/api/v1/alerts", session["token"].as_str().unwrap()).await.is(200);
    world.get("/api/v1/auth/me", old).await.is(401);
    world.log_in("admin", &first).await.is(401);
    world.log_in("admin", PASSWORD).await.is(200);
}

fn initial(password: &str, version_id: &str) -> InitialPassword {
    InitialPassword { password: password.into(), version_id: version_id.into() }
}

#[tokio::test]
async fn a_password_set_outside_makes_the_administrator_and_a_later_version_is_the_way_back_in() {
    const SECOND: &str = "another horse on a staple";
    let world = World::new().await;
    let now = world.app.clock.now();
    let set =
        async |password, version| accounts::initial_administrator(&world.users, &initial(password, version), now).await;
    assert!(set("too short", "v-0").await.is_err());
    let (one, other) = tokio::join!(set("the first horse on it", "v-1"), set("the first horse on it", "v-1"));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert!(one != other && [one, other].contains(&Initial::Made), "{one:?} {other:?}");
    let session = world.log_in("admin", "the first horse on it").await.is(200).json();
    assert_eq!(session["user"]["must_change_password"], true);
    let change = json!({ "current_password": "the first horse on it", "new_password": PASSWORD });
    world.post("/api/v1/auth/password", session["token"].as_str().unwrap(), change).await.is(200);
    assert_eq!(set("the first horse on it", "v-1").await.unwrap(), Initial::Known);
    let session = world.log_in("admin", PASSWORD).await.is(200).json();
    for _ in 0..5 {
        world.log_in("admin", "not the password").await.is(401);
    }

    assert_eq!(set(SECOND, "v-2").await.unwrap(), Initial::Reset);
    world.get("/api/v1/auth/me", session["token"].as_str().unwrap()).await.is(401);
    let session = world.log_in("admin", SECOND).await.is(200).json();
    assert_eq!(session["user"]["must_change_password"], true);
    world.log_in("admin", PASSWORD).await.is(401);
    assert_eq!(set(SECOND, "v-2").await.unwrap(), Initial::Known);
    assert!(!format!("{:?}", initial(SECOND, "v-2")).contains(SECOND));
}

#[tokio::test]
async fn users_brought_from_elsewhere_keep_their_passwords_until_a_new_version_comes() {
    let world = World::new().await;
    let now = world.app.clock.now();
    world.user("admin", Role::Admin).await;
    let set = async |version| {
        accounts::initial_administrator(&world.users, &initial("a horse from the secret", version), now).await
    };
    assert_eq!(set("v-1").await.unwrap(), Initial::Known);
    world.log_in("admin", PASSWORD).await.is(200);
    assert_eq!(set("v-2").await.unwrap(), Initial::Reset);
    world.log_in("admin", PASSWORD).await.is(401);
}

#[tokio::test]
async fn five_attempts_are_free_and_then_waits_double() {
    let world = World::new().await;
    world.user("ann", Role::Analyst).await;
    // The same for a name that nobody has: answers do not tell which exist.
    for name in ["ann", "nobody-at-all"] {
        for _ in 0..5 {
            let refused = world.log_in(name, "wrong wrong wrong").await.is(401);
            assert_eq!(refused.json()["detail"], "name or password is wrong");
        }
        let locked = world.log_in(name, PASSWORD).await.is(429);
        assert_eq!((locked.header("retry-after"), locked.problem().as_str()), (Some("15"), "locked-out"));
        world.clock.advance(14);
        assert_eq!(world.log_in(name, PASSWORD).await.is(429).header("retry-after"), Some("1"));
        world.clock.advance(1);
        world.log_in(name, "wrong wrong wrong").await.is(401);
        assert_eq!(world.log_in(name, PASSWORD).await.is(429).header("retry-after"), Some("30"));
        world.clock.advance(30);
    }
    // A success forgets the failures.
    world.log_in("ann", PASSWORD).await.is(200);
    for _ in 0..5 {
        world.log_in("ann", "wrong wrong wrong").await.is(401);
    }
    world.log_in("ann", PASSWORD).await.is(429);
    // So does a day.
    world.clock.advance(24 * 3600);
    for _ in 0..4 {
        world.log_in("ann", "wrong wrong wrong").await.is(401);
    }
    world.log_in("ann", PASSWORD).await.is(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn attempts_at_the_same_time_each_count() {
    let world = std::sync::Arc::new(World::new().await);
    world.user("ann", Role::Analyst).await;
    let mut tries = tokio::task::JoinSet::new();
    for n in 0..20 {
        let world = world.clone();
        tries.spawn(async move { world.log_in("ann", &format!("wrong wrong wrong {n}")).await.status.as_u16() });
    }
    let mut answers = tries.join_all().await;
    answers.sort_unstable();
    assert_eq!(answers.iter().filter(|s| **s == 401).count(), 5, "{answers:?}");
    assert_eq!(answers.iter().filter(|s| **s == 429).count(), 15, "{answers:?}");
}

#[tokio::test]
async fn a_disabled_user_gets_the_answer_that_a_wrong_password_gets() {
    let world = World::new().await;
    let admin = world.session("root", Role::Admin).await;
    world.user("ann", Role::Analyst).await;
    world.patch("/api/v1/users/ann", &admin, json!({ "disabled": true })).await.is(200);
    let disabled = world.log_in("ann", PASSWORD).await.is(401);
    let absent = world.log_in("nobody", PASSWORD).await.is(401);
    let impossible = world.log_in("no body\n", PASSWORD).await.is(401);
    assert_eq!(disabled.body, absent.body);
    assert_eq!(impossible.body, absent.body);
    world.log_in("ann", &"long".repeat(1000)).await.is(401);
}

#[tokio::test]
async fn sessions_end_by_time_and_by_a_change_of_password() {
    let world = World::new().await;
    world.user("ann", Role::Analyst).await;
    let log_in = || async { world.log_in("ann", PASSWORD).await.is(200).json()["token"].as_str().unwrap().to_owned() };
    let (one, two) = (log_in().await, log_in().await);
    world.get("/api/v1/auth/me", &two).await.is(200);
    let change = json!({ "current_password": PASSWORD, "new_password": "another horse elsewhere" });
    let three = world.post("/api/v1/auth/password", &one, change).await.is(200).json();
    let three = three["token"].as_str().unwrap();
    for ended in [&one, &two] {
        world.get("/api/v1/auth/me", ended).await.is(401);
    }
    world.get("/api/v1/auth/me", three).await.is(200);
    world.clock.advance(token::SESSION_SECONDS - 1);
    world.get("/api/v1/auth/me", three).await.is(200);
    world.clock.advance(1);
    let expired = world.get("/api/v1/auth/me", three).await.is(401);
    assert_eq!(expired.json()["detail"], "the token has expired");
}

fn part(token: &str, n: usize) -> Value {
    let part = token.split('.').nth(n).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn joined(header: &Value, claims: &Value, signature: &str) -> String {
    let text = |v: &Value| BASE64_URL_SAFE_NO_PAD.encode(v.to_string());
    format!("{}.{}.{signature}", text(header), text(claims))
}

#[tokio::test]
async fn tokens_that_we_did_not_sign_so_are_refused() {
    let world = World::new().await;
    let good = world.session("root", Role::Admin).await;
    world.get("/api/v1/users", &good).await.is(200);
    let (header, claims) = (part(&good, 0), part(&good, 1));
    let signature = good.rsplit('.').next().unwrap();
    let kid = header["kid"].as_str().unwrap();
    let key = world.app.signing.list().await.unwrap().remove(0);
    let secret = key.secret.as_bytes();
    let with = |mut value: Value, name: &str, new: Value| {
        value[name] = new;
        value
    };
    let signed = |algorithm, kid: Option<&str>, claims: &Value, secret: &[u8]| {
        let mut header = Header::new(algorithm);
        header.kid = kid.map(str::to_owned);
        jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret)).unwrap()
    };
    assert_eq!(signed(Algorithm::HS256, Some(kid), &claims, secret).split('.').count(), 3);
    world.get("/api/v1/users", &signed(Algorithm::HS256, Some(kid), &claims, secret)).await.is(200);
    let mut no_expiry = claims.clone();
    no_expiry.as_object_mut().unwrap().remove("exp");
    for (what, bad) in [
        ("alg none", joined(&with(header.clone(), "alg", json!("none")), &claims, "")),
        ("alg None", joined(&with(header.clone(), "alg", json!("None")), &claims, signature)),
        ("another algorithm's header", joined(&with(header.clone(), "alg", json!("RS256")), &claims, signature)),
        ("another algorithm, right key", signed(Algorithm::HS512, Some(kid), &claims, secret)),
        ("no kid", signed(Algorithm::HS256, None, &claims, secret)),
        ("unknown kid", signed(Algorithm::HS256, Some("other"), &claims, secret)),
        ("wrong key", signed(Algorithm::HS256, Some(kid), &claims, b"0000000000000000000000000000000000000000")),
        ("empty key", signed(Algorithm::HS256, Some(kid), &claims, b"")),
        ("other issuer", signed(Algorithm::HS256, Some(kid), &with(claims.clone(), "iss", json!("x")), secret)),
        ("no expiry", signed(Algorithm::HS256, Some(kid), &no_expiry, secret)),
        ("expired", signed(Algorithm::HS256, Some(kid), &with(claims.clone(), "exp", json!(1)), secret)),
        ("other epoch", signed(Algorithm::HS256, Some(kid), &with(claims.clone(), "epoch", json!(2)), secret)),
        ("session as token", signed(Algorithm::HS256, Some(kid), &with(claims.clone(), "kind", json!("api")), secret)),
        ("tampered claims", joined(&header, &with(claims.clone(), "sub", json!("boss")), signature)),
        ("cut signature", good[..good.len() - 2].to_owned()),
        ("nothing", String::new()),
        ("words", "not a token".to_owned()),
    ] {
        let answer = world.get("/api/v1/users", &bad).await;
        assert_eq!(answer.status.as_u16(), 401, "{what}");
    }
    for header_value in [format!("Basic {good}"), good.clone(), format!("Bearer{good}"), String::new()] {
        let request = request(Method::GET, "/api/v1/users", None).header(header::AUTHORIZATION, header_value);
        world.send(request.body(Body::empty()).unwrap()).await.is(401);
    }
    // The scheme's name has no case (RFC 9110, section 11.1).
    let request = request(Method::GET, "/api/v1/users", None).header(header::AUTHORIZATION, format!("bearer {good}"));
    world.send(request.body(Body::empty()).unwrap()).await.is(200);
}

#[tokio::test]
async fn signing_keys_rotate_and_old_ones_still_check() {
    let world = World::new().await;
    let admin = world.session("root", Role::Admin).await;
    let new_token = json!({ "name": "shipper", "scopes": ["logs:write"], "expires_in_days": 365 });
    let shipper = world.post("/api/v1/tokens", &admin, new_token).await.is(201).json();
    let shipper = shipper["token"].as_str().unwrap();
    let first = part(shipper, 0)["kid"].clone();
    token::rotate(world.app.signing.as_ref(), time::plus_seconds(world.app.clock.now(), 1)).await.unwrap();
    world.clock.advance(2);
    let root = world.users.get("root").await.unwrap().unwrap().value;
    let second = world.token_of(&root).await;
    assert_ne!(part(&second, 0)["kid"], first);
    world.get("/api/v1/users", &admin).await.is(200);
    world.get("/api/v1/users", &second).await.is(200);
    // A key that has grown old is replaced by itself, and checks until its last token has ended.
    world.clock.advance(91 * 86_400);
    let third = world.token_of(&root).await;
    assert_ne!(part(&third, 0)["kid"], part(&second, 0)["kid"]);
    world.clock.advance(273 * 86_400);
    world.ask(Method::POST, "/api/v1/logs", Some(shipper)).await.is(400);
    world.clock.advance(86_400);
    world.ask(Method::POST, "/api/v1/logs", Some(shipper)).await.is(401);
    // Once nothing can be signed with it any more, a key is gone.
    world.clock.advance(92 * 86_400);
    assert_eq!(world.app.signing.list().await.unwrap().len(), 1, "{:?}", world.app.signing.list().await.unwrap());
}
