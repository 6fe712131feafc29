use std::sync::LazyLock;

use aws_lc_rs::{
    encoding::Pkcs8V1Der,
    rsa::KeySize,
    signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::crypto::pem::PemFault;

static PAIR: LazyLock<KeyPair> = LazyLock::new(|| KeyPair::generate(KeySize::Rsa2048).unwrap());

fn pkcs8() -> Vec<u8> {
    AsDer::<Pkcs8V1Der<'_>>::as_der(&*PAIR).unwrap().as_ref().to_vec()
}

/// In PKCS#8 the PKCS#1 key is the content of the OCTET STRING at its end.
fn pkcs1() -> Vec<u8> {
    let pkcs8 = pkcs8();
    let octets = Reader(&pkcs8).next().unwrap().inner().last().unwrap();
    octets.content.to_vec()
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// The same key as another program would export it.
fn jwk() -> Value {
    let pkcs1 = pkcs1();
    let mut numbers = Reader(&pkcs1).next().unwrap().inner().skip(1).map(|number| {
        let digits = number.content.strip_prefix(&[0]).unwrap_or(number.content);
        URL_SAFE_NO_PAD.encode(digits)
    });
    let mut jwk = json!({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "x"});
    for name in ["n", "e", "d", "p", "q", "dp", "dq", "qi"] {
        jwk[name] = numbers.next().unwrap().into();
    }
    jwk
}

fn read(text: &str) -> Result<RsaKey, KeyFault> {
    RsaKey::read(&SecretString::from(text))
}

#[test]
fn every_form_is_the_same_key_and_signs() {
    let padded = {
        let mut jwk = jwk();
        jwk["e"] = "AQAB==".into();
        jwk
    };
    for text in [
        pem("PRIVATE KEY", &pkcs8()),
        pem("RSA PRIVATE KEY", &pkcs1()),
        jwk().to_string(),
        format!("\n  {}", serde_json::to_string_pretty(&jwk()).unwrap()),
        padded.to_string(),
    ] {
        let key = read(&text).unwrap();
        assert_eq!(key.bits(), 2048);
        let expected: PublicKeyX509Der<'_> = PAIR.public_key().as_der().unwrap();
        assert_eq!(key.public_key_info().unwrap(), expected.as_ref());
        let jwt = key.jwt(&json!({"alg": "RS256"}), &json!({"a": 1})).unwrap();
        let (signed, signature) = jwt.rsplit_once('.').unwrap();
        let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, PAIR.public_key());
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        public.verify(signed.as_bytes(), &signature).unwrap();
        assert_eq!(signed.split_once('.').unwrap().1, URL_SAFE_NO_PAD.encode(r#"{"a":1}"#));
    }
}

#[test]
fn the_jwk_becomes_the_very_same_pkcs1() {
    let jwk: Jwk = serde_json::from_value(jwk()).unwrap();
    assert_eq!(jwk.pkcs1().unwrap().expose_secret(), pkcs1());
}

#[test]
fn what_is_no_key_is_refused_without_being_told() {
    let without = |name: &str| {
        let mut jwk = jwk();
        jwk.as_object_mut().unwrap().remove(name);
        jwk.to_string()
    };
    let with = |name: &str, value: Value| {
        let mut jwk = jwk();
        jwk[name] = value;
        jwk.to_string()
    };
    let ec = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let damaged = pem("RSA PRIVATE KEY", &pkcs1()[..500]);
    let not_rsa = || KeyFault::NotRsa("EC".to_owned());
    let public: String = {
        let mut jwk = jwk();
        let keep = ["kty", "n", "e"];
        jwk.as_object_mut().unwrap().retain(|name, _| keep.contains(&name.as_str()));
        jwk.to_string()
    };
    for (text, fault) in [
        ("no key".to_owned(), KeyFault::None),
        (ec, not_rsa()),
        (pem("ENCRYPTED PRIVATE KEY", &pkcs8()), KeyFault::Pem(PemFault::Encrypted { line: 1 })),
        (pem("PUBLIC KEY", &pkcs8()[..100]), KeyFault::Public),
        (damaged, KeyFault::Unusable),
        (pem("RSA PRIVATE KEY", &short_pkcs1()), KeyFault::Small(1024)),
        ("{}".to_owned(), KeyFault::NotJson),
        ("{not json".to_owned(), KeyFault::NotJson),
        (json!({"keys": [jwk()]}).to_string(), KeyFault::JwkSet),
        (STANDARD.encode(jwk().to_string()), KeyFault::Base64("a JWK")),
        (STANDARD.encode(pem("PRIVATE KEY", &pkcs8())), KeyFault::Base64("PEM")),
        (STANDARD.encode(pkcs8()), KeyFault::Bare),
        (public, KeyFault::PublicJwk),
        (with("kty", "EC".into()), not_rsa()),
        (with("n", "not base64url!".into()), KeyFault::NotJson),
        (with("n", 7.into()), KeyFault::NotJson),
        (without("d"), KeyFault::PublicJwk),
        (without("qi"), KeyFault::Incomplete("qi".to_owned())),
        (with("n", json!(null)), KeyFault::Incomplete("n".to_owned())),
        (
            "{\"kty\":\"RSA\",\"n\":null}".to_owned(),
            KeyFault::Incomplete("n, e, d, p, q, dp, dq, qi".to_owned()),
        ),
        (with("oth", json!([])), KeyFault::NotRsa("more than two primes".to_owned())),
        (with("d", "AQAB".into()), KeyFault::Unusable),
        (with("n", jwk()["p"].clone()), KeyFault::Small(1024)),
    ] {
        let found = read(&text).unwrap_err();
        assert_eq!(found, fault, "{text}");
    }
}

/// As much of a key of 1024 bits as is looked at before it is refused.
fn short_pkcs1() -> Vec<u8> {
    let numbers = [&[0][..], &[0xff; 128], &[1, 0, 1]];
    der::sequence(&numbers.map(der::unsigned))
}

#[test]
fn the_id_of_a_jwk_is_the_keys() {
    assert_eq!(read(&jwk().to_string()).unwrap().id(), Some("x"));
    assert_eq!(read(&pem("PRIVATE KEY", &pkcs8())).unwrap().id(), None);
}

#[test]
fn a_key_is_never_shown() {
    let shown = format!("{:?}", read(&jwk().to_string()).unwrap());
    assert_eq!(shown, "RsaKey { bits: 2048, .. }");
}
