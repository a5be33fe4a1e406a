//! Argon2id, slow on purpose: run beside the loop, never in it.
//!
//! Parameters are the library's defaults: 19 MiB, two passes, one lane (OWASP's first choice).

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use node::Secret;

/// The verifier of a password as a PHC string.
///
/// Empty, which no password fits, if the library refuses (a password of 4 GiB).
pub fn hash(password: &Secret, salt: &[u8; 16]) -> String {
    let hashed = Argon2::default().hash_password_with_salt(password.expose().as_bytes(), salt);
    hashed.map(|hash| hash.to_string()).unwrap_or_default()
}

/// Whether a password fits its verifier; a verifier that is none fits nothing.
pub fn fits(password: &Secret, phc: &str) -> bool {
    Argon2::default().verify_password(password.expose().as_bytes(), phc).is_ok()
}

/// 32 bytes of a secret that people may have chosen, as slow to try as a password.
pub fn derive(secret: &[u8], salt: &[u8; 16]) -> [u8; 32] {
    let mut key = [0; 32];
    Argon2::default()
        .hash_password_into(secret, salt, &mut key)
        .expect("salt and output have lengths that the library takes");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_fits_its_own_verifier_alone() {
        let secret = |text: &str| Secret::new(text.to_owned());
        let phc = hash(&secret("correct horse"), &[7; 16]);
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(fits(&secret("correct horse"), &phc));
        assert!(!fits(&secret("correct horsf"), &phc));
        assert!(!fits(&secret(""), ""));
        assert_ne!(hash(&secret("correct horse"), &[8; 16]), phc);
    }
}
