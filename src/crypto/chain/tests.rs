use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use super::*;

struct Made {
    der: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

fn params(name: &str, years: (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    params
}

fn made(name: &str, years: (i32, i32), ca: bool, by: Option<&Made>) -> Made {
    let mut params = params(name, years);
    if ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = match by {
        Some(by) => params.signed_by(&key, &by.issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    Made { der: certificate.der().clone(), issuer: Issuer::new(params, key) }
}

const YEARS: (i32, i32) = (2026, 2030);

/// In 2027.
fn now() -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000)
}

/// What is told of these, each of which must be of the words.
fn told(chain: &[&Made], root: &Made, words: &[&str]) {
    let chain: Vec<_> = chain.iter().map(|made| made.der.clone()).collect();
    let audience = Audience { host: Some("a.example".to_owned()), more: vec![root.der.clone()] };
    let told = of_server(&chain, &audience, now());
    assert_eq!(told.len(), words.len(), "{told:?}");
    for (told, words) in told.iter().zip(words) {
        assert!(told.contains(words), "{told}: {words}");
    }
}

#[test]
fn names_order_dates_and_trust_are_warned_of() {
    let root = made("root", YEARS, true, None);
    let middle = made("middle", YEARS, true, Some(&root));
    let leaf = made("a.example", YEARS, false, Some(&middle));
    told(&[&leaf, &middle], &root, &[]);
    told(&[&leaf, &middle, &root], &root, &[]);
    told(&[&leaf], &root, &["stands alone"]);
    told(&[&leaf, &root, &middle], &root, &["out of order"]);
    told(&[&leaf, &root], &root, &["certificate 2 of the chain does not vouch", "leads to no"]);
    let other = made("b.example", YEARS, false, Some(&middle));
    told(&[&other, &middle], &root, &["is not for a.example"]);
    let over = made("a.example", (2024, 2026), false, Some(&middle));
    told(&[&over, &middle], &root, &["ended on 2026-01-01T00:00:00Z: renew it"]);
    let early = made("a.example", (2029, 2030), false, Some(&middle));
    told(&[&early, &middle], &root, &["begins only on 2029"]);
    let old = made("middle", (2024, 2026), true, Some(&root));
    let of_old = made("a.example", YEARS, false, Some(&old));
    told(&[&of_old, &old], &root, &["certificate 2 of the file ended"]);
    let alone = made("a.example", YEARS, false, None);
    told(&[&alone], &root, &["self-signed"]);
    told(&[&alone], &alone, &[]);
}

#[test]
fn a_certificate_that_should_have_been_renewed_is_told() {
    let root = made("root", YEARS, true, None);
    let leaf = made("a.example", YEARS, false, Some(&root));
    let days_before = |days: u64| {
        let end = Certificate::read(&leaf.der).unwrap().not_after.as_secs();
        Timestamp::from_millis((end - days * DAY) * 1000)
    };
    let chain = [leaf.der.clone()];
    assert_eq!(of_any(&chain, days_before(15)), Vec::<String>::new());
    assert!(of_any(&chain, days_before(13))[0].contains("in 13 days"));
}
