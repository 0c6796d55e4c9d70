module github.com/neighpin/neighpin/e2e

go 1.26.0

replace github.com/neighpin/neighpin => ../

require golang.org/x/mod v0.42.0
