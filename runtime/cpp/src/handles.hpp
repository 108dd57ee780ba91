// What the opaque handles of the C API hold.
#pragma once

#include <memory>

#include "session.hpp"

struct hsrt_model {
  std::shared_ptr<const hsrt::Model> model;
};

struct hsrt_session {
  hsrt::Session session;
  std::shared_ptr<const hsrt::Model> model;
};

struct hsrt_inversion {
  hsrt::Inversion inversion;
};
